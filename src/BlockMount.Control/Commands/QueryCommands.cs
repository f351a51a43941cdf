using BlockMount.Block.Devices;
using BlockMount.Block.Graph;
using BlockMount.Block.Nodes;
using BlockMount.Control.Json;
using BlockMount.Control.Qmp;

namespace BlockMount.Control.Commands;

/// <summary>Commands that show devices, nodes and the graph (FEATURES Q5 to Q8). Each is one action of the control loop, so that its parts fit together.</summary>
public sealed class QueryCommands
{
    private static readonly (NodePermission Permission, string Name)[] s_permissions =
    [
        (NodePermission.ConsistentRead, "consistent-read"),
        (NodePermission.Write, "write"),
        (NodePermission.WriteUnchanged, "write-unchanged"),
        (NodePermission.Resize, "resize"),
    ];

    private readonly ControlLoop _control;

    private QueryCommands(IMonitorHost host) => _control = host.Control;

    /// <summary>Adds the commands to the table.</summary>
    public static void Register(CommandTable commands, IMonitorHost host)
    {
        QueryCommands queries = new(host);
        commands.Register("query-block", queries.Asking((scope, _) => DevicesAsync(scope)));
        commands.Register("query-named-block-nodes", queries.Asking((scope, arguments) => NodesAsync(scope, arguments.Flag("flat") == true)));
        commands.Register("query-blockstats", queries.Asking((scope, arguments) => new ValueTask<JsonValue>(Statistics(scope, arguments.Flag("query-nodes") == true))));
        commands.Register("x-debug-query-block-graph", queries.Asking((scope, _) => new ValueTask<JsonValue>(Graph(scope))));
    }

    private Func<JsonObject, ValueTask<JsonValue>> Asking(Func<ControlScope, JsonObject, ValueTask<JsonValue>> query) =>
        async arguments => await _control.RunAsync(scope => query(scope, arguments));

    private static async ValueTask<JsonValue> DevicesAsync(ControlScope scope)
    {
        JsonList devices = new();
        foreach (BlockDevice device in scope.Graph.Devices)
        {
            devices.Add(new JsonObject
            {
                ["io-status"] = "ok",
                ["device"] = device.Name,
                ["locked"] = false,
                ["removable"] = false,
                ["inserted"] = await NodeAsync(scope, device.Root, flat: false),
                ["type"] = "unknown",
            });
        }

        return devices;
    }

    private static async ValueTask<JsonValue> NodesAsync(ControlScope scope, bool flat)
    {
        JsonList nodes = new();
        // The newest first, as QEMU answers.
        foreach (Node node in scope.Graph.Nodes.Reverse())
        {
            nodes.Add(await NodeAsync(scope, node, flat));
        }

        return nodes;
    }

    private static async ValueTask<JsonObject> NodeAsync(ControlScope scope, Node node, bool flat)
    {
        List<NodeReport> below = [];
        for (Node? lower = flat ? null : node.Backing; lower is not null; lower = lower.Backing)
        {
            below.Add(await GraphQueries.NodeAsync(scope, lower));
        }

        return NodeFacts.OfNode(await GraphQueries.NodeAsync(scope, node), below);
    }

    private static JsonList Statistics(ControlScope scope, bool nodes) =>
        new((nodes ? StatisticsQueries.Nodes(scope) : StatisticsQueries.Devices(scope)).Select(StatisticsFacts.Of));

    private static JsonObject Graph(ControlScope scope)
    {
        GraphReport graph = GraphQueries.Graph(scope);
        return new JsonObject
        {
            ["edges"] = new JsonList(graph.Edges.Select(edge => new JsonObject
            {
                ["name"] = edge.Name,
                ["parent"] = (long)edge.Parent,
                ["shared-perm"] = Names(edge.Shared),
                ["perm"] = Names(edge.Held),
                ["child"] = (long)edge.Child,
            })),
            ["nodes"] = new JsonList(graph.Vertices.Select(vertex => new JsonObject
            {
                ["name"] = vertex.Name,
                ["type"] = vertex.Type,
                ["id"] = (long)vertex.Id,
            })),
        };
    }

    private static JsonList Names(NodePermission permissions) =>
        new(s_permissions.Where(entry => permissions.HasFlag(entry.Permission)).Select(entry => JsonValue.FromString(entry.Name)));
}
