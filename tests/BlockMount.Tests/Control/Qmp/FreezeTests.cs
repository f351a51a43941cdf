using BlockMount.Block.Devices;
using BlockMount.Block.Nodes;
using BlockMount.Control.Commands;
using BlockMount.Control.Json;
using BlockMount.Control.Qmp;
using BlockMount.Control.Schema;
using BlockMount.Formats.Raw;
using BlockMount.Storage;
using BlockMount.TestSupport;
using BlockMount.TestSupport.Faults;
using Xunit;

namespace BlockMount.Tests.Control.Qmp;

/// <summary>'stop' and 'cont'.</summary>
public sealed class FreezeTests
{
    private readonly QmpEvents _events = new(CommandSchema.Own);
    private readonly CommandTable _commands;

    public FreezeTests() => _commands = new CommandTable(CommandSchema.Own, _events);

    [Fact]
    public async Task AStopThatFailsFreezesNothing()
    {
        await using BlockDevice good = Device(Memory());
        // Not disposed of: a device whose flush has failed says so again when it is closed.
        BlockDevice bad = Device(new FaultyFile(Memory(), new FaultPlan { Calls = StorageCalls.Flush, FailFrom = 1 }));
        ControlCommands.Register(_commands, _events, new FakeHost(good, bad));
        _ = await Assert.ThrowsAsync<CommandException>(() => _commands.ExecuteAsync("stop", new JsonObject()).AsTask());
        await good.WriteAsync(0, new byte[512]).AsTask().WaitAsync(TimeSpan.FromSeconds(10));
        await bad.WriteAsync(0, new byte[512]).AsTask().WaitAsync(TimeSpan.FromSeconds(10));
        Assert.Equal("""{"status": "running", "singlestep": false, "running": true}""", (await _commands.ExecuteAsync("query-status", new JsonObject())).ToString());
    }

    [Fact]
    public async Task WhatChangesTheDiskWaitsAndReadsDoNot()
    {
        await using BlockDevice device = Device(Memory());
        ControlCommands.Register(_commands, _events, new FakeHost(device));
        _ = await _commands.ExecuteAsync("stop", new JsonObject());
        _ = await _commands.ExecuteAsync("stop", new JsonObject());
        Task[] waiting =
        [
            device.WriteAsync(0, new byte[512]).AsTask(), device.ZeroAsync(0, 512, default).AsTask(), device.DiscardAsync(0, 512).AsTask(),
        ];
        await device.ReadAsync(0, new byte[512]);
        await device.FlushAsync();
        await device.ResizeAsync(2 << 20);
        await Task.Delay(50);
        Assert.All(waiting, task => Assert.False(task.IsCompleted));
        _ = await _commands.ExecuteAsync("cont", new JsonObject());
        _ = await _commands.ExecuteAsync("cont", new JsonObject());
        await Task.WhenAll(waiting).WaitAsync(TimeSpan.FromSeconds(10));
    }

    private static MemoryFile Memory() => new(content: new byte[1 << 20]);

    private static BlockDevice Device(StorageFile file) =>
        new("drive0", new FormatNode("node0", "disk", new RawDriver(file), backing: null), readOnly: false);
}
