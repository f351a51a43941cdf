using BlockMount.Block.Devices;
using BlockMount.Block.Nodes;
using BlockMount.Control.Json;
using BlockMount.Control.Qmp;
using BlockMount.Control.Schema;
using BlockMount.Formats;
using BlockMount.Formats.Qcow2.OnDisk;

namespace BlockMount.Control.Commands;

/// <summary>Commands about devices, the nodes below them and their exports.</summary>
public sealed class NodeCommands
{
    private readonly IMonitorHost _host;
    private readonly DeviceLookup _lookup;

    private NodeCommands(IMonitorHost host)
    {
        _host = host;
        _lookup = new DeviceLookup(host);
    }

    /// <summary>Adds the commands to the table.</summary>
    public static void Register(CommandTable commands, IMonitorHost host)
    {
        NodeCommands nodes = new(host);
        commands.Register(NodeSchema.QueryBlock, nodes.QueryBlockAsync);
        commands.Register(NodeSchema.QueryNodes, nodes.QueryNodesAsync);
        commands.Register(NodeSchema.QueryStatistics, nodes.QueryStatistics);
        commands.Register(NodeSchema.Resize, nodes.ResizeAsync);
        commands.Register(NodeSchema.SnapshotInternal, nodes.SnapshotAsync);
        commands.Register(NodeSchema.SnapshotDeleteInternal, nodes.DeleteSnapshotAsync);
    }

    private async ValueTask<JsonValue> QueryBlockAsync(JsonObject arguments)
    {
        JsonList devices = new();
        foreach (BlockDevice device in _host.Devices)
        {
            devices.Add(new JsonObject
            {
                ["io-status"] = "ok",
                ["device"] = device.Name,
                ["locked"] = false,
                ["removable"] = false,
                ["inserted"] = await NodeFacts.OfNodeAsync(device, device.Root, _host, withBelow: true),
                ["type"] = "unknown",
            });
        }

        return devices;
    }

    private async ValueTask<JsonValue> QueryNodesAsync(JsonObject arguments)
    {
        JsonList nodes = new();
        foreach ((BlockDevice device, Node node) in _lookup.Nodes())
        {
            nodes.Add(await NodeFacts.OfNodeAsync(device, node, _host, withBelow: arguments.Flag("flat") != true));
        }

        return nodes;
    }

    private JsonValue QueryStatistics(JsonObject arguments) => new JsonList(_host.Devices.Select(device =>
    {
        JsonObject entry = new();
        if (arguments.Flag("query-nodes") != true)
        {
            entry["device"] = device.Name;
        }

        entry["node-name"] = device.Root.Name;
        entry["stats"] = NodeFacts.OfStatistics(device.Statistics);
        return entry;
    }));

    private async ValueTask<JsonValue> ResizeAsync(JsonObject arguments)
    {
        BlockDevice device = _lookup.Get(arguments);
        long size = arguments.Integer("size")!.Value;
        if (size < 0)
        {
            throw new CommandException("Parameter 'size' expects a >0 size");
        }

        await device.ResizeAsync(size);
        return CommandTable.Nothing;
    }

    private async ValueTask<JsonValue> SnapshotAsync(JsonObject arguments)
    {
        BlockDevice device = _lookup.Get(arguments.Text("device")!);
        string name = arguments.Text("name")!;
        if (name.Length == 0)
        {
            throw new CommandException("Name is empty");
        }

        if ((await device.ListSnapshotsAsync()).Any(snapshot => snapshot.Name == name))
        {
            throw new CommandException($"Snapshot with name '{name}' already exists on device '{device.Name}'");
        }

        _ = await device.CreateSnapshotAsync(name, new SnapshotMoment { Date = DateTimeOffset.UtcNow });
        return CommandTable.Nothing;
    }

    private async ValueTask<JsonValue> DeleteSnapshotAsync(JsonObject arguments)
    {
        BlockDevice device = _lookup.Get(arguments.Text("device")!);
        string? id = arguments.Text("id");
        string? name = arguments.Text("name");
        if (id is null && name is null)
        {
            throw new CommandException("Name or id must be provided");
        }

        SnapshotEntry snapshot = (await device.ListSnapshotsAsync())
            .FirstOrDefault(entry => (id is null || entry.Id == id) && (name is null || entry.Name == name))
            ?? throw new CommandException($"Snapshot with id '{id ?? "null"}' and name '{name ?? "null"}' does not exist on device '{device.Name}'");
        await device.DeleteSnapshotAsync(snapshot.Id);
        return NodeFacts.OfSnapshot(snapshot);
    }
}
