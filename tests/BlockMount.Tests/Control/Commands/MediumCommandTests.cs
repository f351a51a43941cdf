using BlockMount.Block.Devices;
using BlockMount.Block.Graph;
using BlockMount.Block.Nodes;
using BlockMount.Control;
using BlockMount.Control.Json;
using BlockMount.Control.Schema;
using BlockMount.Formats;
using BlockMount.Formats.Qcow2;
using BlockMount.Tests.Control.Qmp;
using BlockMount.TestSupport;
using Xunit;

namespace BlockMount.Tests.Control.Commands;

/// <summary>'change' and 'blockdev-change-medium', the names kept for later, and lines of the human monitor about a device of this process.</summary>
public sealed class MediumCommandTests : IAsyncLifetime
{
    private const int Size = 1 << 20;

    private readonly FakeHost _host = new();
    private readonly ControlMonitor _monitor;
    private BlockDevice _device = null!;

    public MediumCommandTests() => _monitor = new ControlMonitor(_host);

    public async Task InitializeAsync()
    {
        foreach ((string name, long size) in new (string, long)[] { ("a", Size), ("b", 2 * Size) })
        {
            MemoryFile file = new(name);
            await Qcow2Create.CreateAsync(file, new Qcow2CreateOptions { Size = size });
            _host.Files.Add(name, file);
        }

        _host.Files.Add("flat", new MemoryFile("flat", content: new byte[3 * Size]));
        Node top = await new ChainOpener(_host.Files, new OpenPolicy()).OpenAsync("a", new ChainOpenOptions());
        _device = await _host.Control.RunAsync(async scope =>
        {
            scope.Graph.Adopt(scope, top);
            return await scope.Graph.AddDeviceAsync(scope, top, new DeviceOptions { Name = "drive0", Writable = true });
        });
    }

    public async Task DisposeAsync()
    {
        await _host.Control.RunAsync(scope => scope.Graph.RemoveDeviceAsync(scope, _device));
        await _host.Control.DisposeAsync();
    }

    [Fact]
    public async Task ChangeSwapsTheImageBehindTheSameDevice()
    {
        await _device.WriteAsync(0, new byte[] { 7 });
        long announced = 0;
        _device.Resized += size => announced = size;
        _ = await ExecuteAsync("change", """{"device": "drive0", "target": "b", "notify": false}""");
        Assert.Equal((2 * Size, "b", 2 * Size), (announced, _device.Root.FileName, _device.Size));
        byte[] seen = [1];
        await _device.ReadAsync(0, seen);
        Assert.Equal(0, seen[0]);
        _ = await ExecuteAsync("blockdev-change-medium", """{"id": "drive0", "filename": "flat", "format": "raw", "read-only-mode": "retain"}""");
        Assert.Equal(3 * Size, _device.Size);
        _ = await ExecuteAsync("change", """{"device": "drive0", "target": "a"}""");
        await _device.ReadAsync(0, seen);
        Assert.Equal(7, seen[0]);
    }

    [Theory]
    [InlineData("change", """{"device": "nope", "target": "b"}""", "Device 'nope' not found")]
    [InlineData("change", """{"device": "drive0", "target": "flat", "format": "nope"}""", "Unknown driver 'nope'")]
    [InlineData("change", """{"device": "vnc", "target": "password", "arg": "foobar1"}""", "There is no VNC server whose password could be changed")]
    [InlineData("change", """{"device": "drive0", "target": "b", "arg": "qcow2"}""", "Parameter 'arg' does not apply to device 'drive0'; use 'format' for the format of the new image")]
    [InlineData("blockdev-change-medium", """{"filename": "b"}""", "Need exactly one of 'device' and 'id'")]
    [InlineData("blockdev-change-medium", """{"id": "drive0", "device": "drive0", "filename": "b"}""", "Cannot specify both device and ID")]
    [InlineData("blockdev-change-medium", """{"id": "drive0", "filename": "b", "read-only-mode": "read-only"}""", "Device 'drive0' is served for writing")]
    public async Task WhatIsRefusedChangesNothing(string command, string arguments, string message)
    {
        CommandException error = await Assert.ThrowsAsync<CommandException>(() => ExecuteAsync(command, arguments));
        Assert.Equal(message, error.Message);
        Assert.Equal(message.StartsWith("Device 'nope'", StringComparison.Ordinal) ? CommandException.DeviceNotFound : CommandException.GenericError, error.ErrorClass);
        Assert.Equal("a", _device.Root.FileName);
    }

    [Fact]
    public async Task AnImageThatIsNotRecognisedIsNotTakenForRaw()
    {
        _ = await Assert.ThrowsAsync<CommandException>(() => ExecuteAsync("change", """{"device": "drive0", "target": "flat"}"""));
        Assert.Equal("a", _device.Root.FileName);
    }

    [Theory]
    [InlineData("block_stream")]
    [InlineData("query-block-stream")]
    public async Task NamesOfTheStreamJobOf2011AreKeptForIt(string name)
    {
        Assert.DoesNotContain(name, CommandSchema.Own.Commands.Keys);
        CommandException error = await Assert.ThrowsAsync<CommandException>(() => ExecuteAsync(name, "{}"));
        Assert.Equal((CommandException.CommandNotFound, $"The command {name} has not been found"), (error.ErrorClass, error.Message));
    }

    [Fact]
    public async Task TheDiskToolWorksOnAFrozenDevice()
    {
        Task<string> LineAsync(string line) => LineOfAsync(line).WaitAsync(TimeSpan.FromSeconds(20));
        _device.ThawWrites();
        await _device.FreezeWritesAsync();
        Assert.Equal("", await LineAsync("qemu-io drive0 \"write -q -P 9 4k 4k\""));
        _device.ThawWrites();
        Assert.Equal("", await LineAsync("qemu-io drive0 \"read -q -P 9 4k 4k\""));
        Assert.Equal("Pattern verification failed at offset 4097, 3 bytes\n", await LineAsync("qemu-io drive0 \"read -q -P 8 -s 1 -l 3 4k 4k\""));
        Assert.Equal("65536/1048576 bytes allocated at offset 0 bytes\n", await LineAsync("qemu-io node0 \"alloc 0 1M\""));
    }

    [Fact]
    public async Task CountersTellTheFarthestWriteOfDeviceAndFile()
    {
        await _device.WriteAsync(4096, new byte[512]);
        await _device.WriteAsync(0, new byte[512]);
        JsonObject entry = (JsonObject)((JsonList)await ExecuteAsync("query-blockstats", "{}"))[0];
        Assert.Equal(4608, entry.Object("stats")!.Integer("wr_highest_offset"));
        Assert.Equal(2, entry.Object("stats")!.Integer("wr_operations"));
        Assert.InRange(entry.Object("parent")!.Object("stats")!.Integer("wr_highest_offset")!.Value, 4608, long.MaxValue);
        Assert.Equal(0, entry.Object("parent")!.Object("driver-specific")!.Integer("discard-nb-ok"));
        await _device.DiscardAsync(0, 65536);
        entry = (JsonObject)((JsonList)await ExecuteAsync("query-blockstats", "{}"))[0];
        Assert.Equal(65536, entry.Object("stats")!.Integer("unmap_bytes"));
    }

    private Task<JsonValue> ExecuteAsync(string command, string arguments) =>
        _monitor.Commands.ExecuteAsync(command, (JsonObject)JsonReader.Parse(arguments)).AsTask();

    private async Task<string> LineOfAsync(string line) =>
        ((JsonString)await ExecuteAsync("human-monitor-command", new JsonObject { ["command-line"] = line }.ToString())).Value.Replace("\r", "", StringComparison.Ordinal);
}
