using System.Collections.Concurrent;
using BlockMount.Block.Devices;
using BlockMount.Block.Graph;
using BlockMount.Block.Nodes;
using BlockMount.Control.Schema;

namespace BlockMount.Control.Commands;

/// <summary>
/// The devices behind exports. One that is named is served itself; a node gets a device of its own, which has the export's id for its name and ends with the
/// export. One command at a time.
/// </summary>
internal sealed class ExportDevices
{
    private readonly IMonitorHost _host;

    // Devices that were made here; a set.
    private readonly ConcurrentDictionary<BlockDevice, bool> _own = new();

    internal ExportDevices(IMonitorHost host) => _host = host;

    /// <summary>The device that an export of <paramref name="name"/> serves, made if it must be.</summary>
    /// <param name="id">Of the export.</param>
    /// <param name="name">A device or a node.</param>
    /// <param name="device">What the command calls a device, for its error; empty where it takes nodes.</param>
    /// <exception cref="CommandException">There is none, or it cannot be written.</exception>
    internal async ValueTask<ExportDevice> GetAsync(string id, string name, bool writable, string device = "")
    {
        if (StandingDevice(name) is { } standing)
        {
            return writable && standing.ReadOnly ? throw NotWritable() : new ExportDevice(standing, static () => ValueTask.CompletedTask);
        }

        BlockDevice made = await _host.Control.RunAsync(scope => MakeAsync(scope, id, name, writable, device));
        return new ExportDevice(made, () => RemoveAsync(made));
    }

    /// <summary>Whether the device or node of that name takes writes; true if there is none.</summary>
    internal async ValueTask<bool> CanWriteAsync(string name) => StandingDevice(name) is { } standing
        ? !standing.ReadOnly
        : await _host.Control.RunAsync(scope => new ValueTask<bool>(scope.Graph.TryFindNode(name) is not { ReadOnly: true, WaitsForWriter: false }));

    // Not made for another export, which would take it along when it ends. A mount's device also stands for its active layer.
    private BlockDevice? StandingDevice(string name) =>
        _host.Devices.FirstOrDefault(device => device.Name == name && !_own.ContainsKey(device))
        ?? _host.Devices.FirstOrDefault(device => device.Root.Name == name && !_own.ContainsKey(device));

    private async ValueTask<BlockDevice> MakeAsync(ControlScope scope, string id, string name, bool writable, string device)
    {
        Node node = scope.Graph.TryFindDevice(name)?.Root ?? scope.Graph.TryFindNode(name)
            ?? throw new CommandException($"Cannot find device='{device}' nor node-name='{name}'");
        if (writable && node.ReadOnly && !node.WaitsForWriter)
        {
            throw NotWritable();
        }

        BlockDevice made = await scope.Graph.AddDeviceAsync(scope, node, new DeviceOptions
        {
            // An export may have its node's name, which a device cannot have beside it.
            Name = scope.Graph.TryFindNode(id) is null ? id : $"#export-{id}",
            Writable = writable,
        });
        _own[made] = true;
        return made;
    }

    private async ValueTask RemoveAsync(BlockDevice device)
    {
        try
        {
            if (!device.ReadOnly)
            {
                // A frozen device holds back what its clients have sent; they are gone, and the flush would wait for it.
                device.ThawWrites();
                await device.FlushAsync();
            }
        }
        finally
        {
            await _host.Control.RunAsync(async scope =>
            {
                _ = _own.TryRemove(device, out bool _);
                await scope.Graph.RemoveDeviceAsync(scope, device);
            });
        }
    }

    private static CommandException NotWritable() => new("Cannot export read-only node as writable");
}

/// <summary>A device that an export serves.</summary>
/// <param name="EndAsync">Called when the export has ended.</param>
internal sealed record ExportDevice(BlockDevice Device, Func<ValueTask> EndAsync);
