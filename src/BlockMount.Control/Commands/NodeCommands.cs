using BlockMount.Block.Devices;
using BlockMount.Block.Graph;
using BlockMount.Control.Json;
using BlockMount.Control.Qmp;
using BlockMount.Control.Schema;
using BlockMount.Formats;
using BlockMount.Formats.Qcow2.OnDisk;

namespace BlockMount.Control.Commands;

/// <summary>Commands that change the size of a disk, and the snapshots inside its image.</summary>
public sealed class NodeCommands
{
    private readonly IMonitorHost _host;

    private NodeCommands(IMonitorHost host) => _host = host;

    /// <summary>Adds the commands to the table.</summary>
    public static void Register(CommandTable commands, IMonitorHost host)
    {
        NodeCommands nodes = new(host);
        commands.Register("block_resize", nodes.ResizeAsync);
        commands.Register("blockdev-snapshot-internal-sync", nodes.SnapshotAsync);
        commands.Register("blockdev-snapshot-delete-internal-sync", nodes.DeleteSnapshotAsync);
    }

    private async ValueTask<JsonValue> ResizeAsync(JsonObject arguments)
    {
        long size = arguments.Integer("size")!.Value;
        string? name = arguments.Text("device") ?? arguments.Text("node-name");
        // A device's exports follow its size; a node without one is asked for by itself.
        if (await FindDeviceAsync(name) is not { } device)
        {
            await _host.Control.RunAsync(scope => NodeOperations.ResizeAsync(scope, arguments.Text("device"), arguments.Text("node-name"), size));
        }
        else if (size < 0)
        {
            throw new CommandException("Parameter 'size' expects a >0 size");
        }
        else
        {
            await device.ResizeAsync(size);
        }

        return CommandTable.Nothing;
    }

    private async Task<BlockDevice?> FindDeviceAsync(string? name) =>
        name is null ? null : await _host.Control.RunAsync(scope => new ValueTask<BlockDevice?>(scope.Graph.TryFindDeviceOf(name)));

    private async ValueTask<JsonValue> SnapshotAsync(JsonObject arguments)
    {
        SnapshotMoment moment = new() { Date = DateTimeOffset.UtcNow };
        await _host.Control.RunAsync(scope => GraphTransaction.RunAsync(
            scope, transaction => InternalSnapshotOperations.CreateAsync(transaction, arguments.Text("device")!, arguments.Text("name")!, moment)));
        return CommandTable.Nothing;
    }

    private async ValueTask<JsonValue> DeleteSnapshotAsync(JsonObject arguments)
    {
        SnapshotEntry snapshot = await _host.Control.RunAsync(scope => InternalSnapshotOperations.DeleteAsync(
            scope, arguments.Text("device")!, arguments.Text("id"), arguments.Text("name")));
        return NodeFacts.OfSnapshot(snapshot);
    }
}
