using BlockMount.Block.Devices;
using BlockMount.Block.Nodes;
using BlockMount.Storage;

namespace BlockMount.Block.Graph;

/// <summary>What query-blockstats tells of one node (FEATURES Q7), and of those below that matter to it. Immutable.</summary>
/// <param name="NodeName">Its name.</param>
/// <param name="Driver">As "qcow2".</param>
/// <param name="WriteHighestOffset">Where the farthest write to it has ended, in bytes; 0 before the first one.</param>
/// <param name="Discards">Of a host file: what was given back to its file system; null for other nodes.</param>
/// <param name="Device">Of a device's root, if devices were asked for: the device.</param>
/// <param name="File">The node that keeps its data and metadata.</param>
/// <param name="Backing">The node that shows through.</param>
public sealed record StatisticsReport(
    string NodeName, string Driver, long WriteHighestOffset, DiscardCounts? Discards, BlockDevice? Device, StatisticsReport? File, StatisticsReport? Backing);

/// <summary>Counters of devices and nodes. On the control loop.</summary>
public static class StatisticsQueries
{
    /// <summary>One report for each device, with the whole chain below it.</summary>
    public static IReadOnlyList<StatisticsReport> Devices(ControlScope scope) =>
        [.. scope.Graph.Devices.Select(device => Chain(device.Root, device))];

    /// <summary>One report for each node; each with its file, none with what shows through.</summary>
    public static IReadOnlyList<StatisticsReport> Nodes(ControlScope scope) => [.. scope.Graph.Nodes.Select(node => Of(node, device: null, backing: null))];

    // From the base up, because a report is made with what is below it. A loop and no recursion: chains may be deep.
    private static StatisticsReport Chain(Node root, BlockDevice device)
    {
        Stack<Node> nodes = new();
        for (Node? node = root; node is not null; node = node.Backing)
        {
            nodes.Push(node);
        }

        StatisticsReport? report = null;
        while (nodes.TryPop(out Node? node))
        {
            report = Of(node, node == root ? device : null, report);
        }

        return report!;
    }

    private static StatisticsReport Of(Node node, BlockDevice? device, StatisticsReport? backing)
    {
        Node? file = node.Children.FirstOrDefault(edge => edge.Role != NodeEdge.BackingRole)?.Child;
        return new StatisticsReport(
            node.Name, node.DriverName, node.WriteHighestOffset, (node as FileNode)?.File.Discards, device, file is null ? null : Of(file, device: null, backing: null), backing);
    }
}
