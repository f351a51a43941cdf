using BlockMount.Block.Graph;
using BlockMount.Control.Json;
using BlockMount.Control.Qmp;
using BlockMount.Control.Schema;
using BlockMount.Formats;

namespace BlockMount.Control.Commands;

/// <summary>Commands that change the graph of nodes: each is one action of the control loop.</summary>
public sealed class GraphCommands
{
    private readonly ControlLoop _control;
    private readonly QmpEvents _events;

    private GraphCommands(IMonitorHost host, QmpEvents events)
    {
        _control = host.Control;
        _events = events;
    }

    /// <summary>Adds the commands to the table.</summary>
    public static void Register(CommandTable commands, QmpEvents events, IMonitorHost host)
    {
        GraphCommands graph = new(host, events);
        commands.Register("blockdev-add", graph.Changing(async (scope, arguments) => _ = await NodeOperations.AddAsync(scope, NodeOptionReader.Read(arguments))));
        commands.Register("blockdev-del", graph.Changing((scope, arguments) => NodeOperations.DeleteAsync(scope, arguments.Text("node-name")!)));
        commands.Register("blockdev-reopen", graph.Changing((scope, arguments) => NodeOperations.ReopenAsync(
            scope, [.. arguments.List("options")!.Cast<JsonObject>().Select(NodeOptionReader.Read)])));
        commands.Register("change-backing-file", graph.Changing((scope, arguments) => NodeOperations.ChangeBackingFileAsync(
            scope, arguments.Text("device")!, arguments.Text("image-node-name")!, arguments.Text("backing-file")!)));
        commands.Register("block-set-write-threshold", graph.Changing(graph.SetThreshold));
        commands.Register("blockdev-snapshot-sync", graph.Changing((scope, arguments) => SnapshotOperations.SnapshotSyncAsync(scope, SnapshotSync(arguments))));
        commands.Register("blockdev-snapshot", graph.Changing((scope, arguments) => SnapshotOperations.SnapshotAsync(
            scope, arguments.Text("node")!, arguments.Text("overlay")!)));
        commands.Register("transaction", graph.Changing((scope, arguments) => GraphTransaction.RunAsync(
            scope, [.. arguments.List("actions")!.Cast<JsonObject>().Select(Part)])));
    }

    private Func<JsonObject, ValueTask<JsonValue>> Changing(Func<ControlScope, JsonObject, ValueTask> change) => async arguments =>
    {
        await _control.RunAsync(scope => change(scope, arguments));
        return CommandTable.Nothing;
    };

    private static Func<GraphTransaction, ValueTask> Part(JsonObject action)
    {
        JsonObject data = action.Object("data")!;
        return action.Text("type") switch
        {
            "abort" => static _ => throw new CommandException("Transaction aborted using Abort action"),
            "blockdev-snapshot" => transaction => SnapshotOperations.SnapshotAsync(transaction, data.Text("node")!, data.Text("overlay")!),
            "blockdev-snapshot-sync" => transaction => SnapshotOperations.SnapshotSyncAsync(transaction, SnapshotSync(data)),
            _ => transaction => InternalSnapshotOperations.CreateAsync(
                transaction, data.Text("device")!, data.Text("name")!, new SnapshotMoment { Date = DateTimeOffset.UtcNow }),
        };
    }

    private static SnapshotSyncOptions SnapshotSync(JsonObject arguments) => new()
    {
        Device = arguments.Text("device"),
        NodeName = arguments.Text("node-name"),
        SnapshotFile = arguments.Text("snapshot-file")!,
        SnapshotNodeName = arguments.Text("snapshot-node-name"),
        Format = arguments.Text("format") ?? "qcow2",
        Existing = arguments.Text("mode") == "existing",
    };

    private ValueTask SetThreshold(ControlScope scope, JsonObject arguments)
    {
        NodeOperations.SetWriteThreshold(
            scope, arguments.Text("node-name")!, arguments.Integer("write-threshold") ?? 0,
            (node, threshold, exceeded) => _events.Emit("BLOCK_WRITE_THRESHOLD", new JsonObject
            {
                ["node-name"] = node.Name,
                ["amount-exceeded"] = exceeded,
                ["write-threshold"] = threshold,
            }));
        return ValueTask.CompletedTask;
    }
}
