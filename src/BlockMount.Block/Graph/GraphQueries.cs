using BlockMount.Block.Devices;
using BlockMount.Block.Filters;
using BlockMount.Block.Nodes;
using BlockMount.Formats.Qcow2;
using BlockMount.Formats.Qcow2.OnDisk;
using BlockMount.Storage;

namespace BlockMount.Block.Graph;

/// <summary>Answers about the graph. On the control loop, so that nothing changes meanwhile; nobody's I/O is held up.</summary>
public static class GraphQueries
{
    /// <summary>query-named-block-nodes, in the order in which the nodes came.</summary>
    public static async ValueTask<IReadOnlyList<NodeReport>> NodesAsync(ControlScope scope)
    {
        List<NodeReport> reports = [];
        foreach (Node node in scope.Graph.Nodes)
        {
            reports.Add(await NodeAsync(scope, node));
        }

        return reports;
    }

    /// <summary>One node.</summary>
    public static async ValueTask<NodeReport> NodeAsync(ControlScope scope, Node node)
    {
        scope.Graph.CheckScope(scope);
        StorageOpenOptions opened = GraphWalk.Below([node]).OfType<FileNode>().FirstOrDefault()?.OpenedWith ?? new StorageOpenOptions();
        return new NodeReport
        {
            Name = node.Name,
            Driver = node.DriverName,
            FileName = node.FileName,
            ReadOnly = node.ReadOnly,
            IsMonitorOwned = node.IsMonitorOwned,
            Size = node.Size,
            AllocatedBytes = node.AllocatedBytes,
            ClusterSize = node.ClusterSize,
            BackingFileName = node.Backing?.FileName,
            BackingDepth = BackingDepth(node),
            Direct = opened.Direct,
            NoFlush = opened.NoFlush,
            DetectZeroes = (node as FormatNode)?.DetectZeroes ?? DetectZeroes.Off,
            WriteThreshold = node.WriteThreshold,
            Children = [.. node.Children.Select(edge => new ChildReport(edge.Role, edge.Child.Name))],
            Throttle = (node as ThrottleNode ?? node.Parents.Select(edge => edge.Parent).OfType<ThrottleNode>().FirstOrDefault())?.Group,
            Qcow2 = node is FormatNode { Driver: Qcow2Driver qcow2 } ? Qcow2(qcow2.Header) : null,
            Snapshots = !node.IsFilter && node.Snapshots is { } snapshots ? await snapshots.ListAsync() : [],
        };
    }

    /// <summary>query-block and query-blockstats.</summary>
    public static async ValueTask<IReadOnlyList<DeviceReport>> DevicesAsync(ControlScope scope)
    {
        List<DeviceReport> reports = [];
        foreach (BlockDevice device in scope.Graph.Devices)
        {
            reports.Add(new DeviceReport(
                device.Name, await NodeAsync(scope, device.Root), device.Size, device.ReadOnly, device.IsFrozen, device.Statistics));
        }

        return reports;
    }

    /// <summary>x-debug-query-block-graph: devices first, then nodes.</summary>
    public static GraphReport Graph(ControlScope scope)
    {
        List<GraphVertexReport> vertices = [];
        List<GraphEdgeReport> edges = [];
        Dictionary<IEdgeUser, int> ids = [];
        foreach (BlockDevice device in scope.Graph.Devices)
        {
            ids.Add(device, ids.Count + 1);
            vertices.Add(new GraphVertexReport(ids[device], "block-backend", device.Name));
        }

        foreach (Node node in scope.Graph.Nodes)
        {
            ids.Add(node, ids.Count + 1);
            vertices.Add(new GraphVertexReport(ids[node], "block-driver", node.Name));
        }

        foreach (NodeEdge edge in scope.Graph.Nodes.SelectMany(node => node.Parents).Where(edge => ids.ContainsKey(edge.Parent)))
        {
            edges.Add(new GraphEdgeReport(ids[edge.Parent], ids[edge.Child], edge.Role, edge.Permissions.Held, edge.Permissions.Shared));
        }

        return new GraphReport(vertices, [.. edges.OrderBy(edge => edge.Parent)]);
    }

    private static int BackingDepth(Node node)
    {
        int depth = 0;
        for (Node? below = node.Backing; below is not null; below = below.Backing)
        {
            depth++;
        }

        return depth;
    }

    private static Qcow2Report Qcow2(Qcow2Header header) => new()
    {
        Version = (int)header.Version,
        CompressionType = header.CompressionType == 0 ? "zlib" : "zstd",
        LazyRefcounts = header.HasCompatible(FeatureBits.LazyRefcounts),
        RefcountBits = 1 << (int)header.RefcountOrder,
        Corrupt = header.HasIncompatible(FeatureBits.Corrupt),
        Dirty = header.HasIncompatible(FeatureBits.Dirty),
        ExtendedL2 = header.HasIncompatible(FeatureBits.ExtendedL2),
        DataFile = header.DataFileName,
        DataFileRaw = header.HasDataFile ? (header.AutoclearFeatures & FeatureBits.RawExternalData) != 0 : null,
        BackingFileName = header.Backing?.FileName,
        BackingFormat = header.Backing?.Format,
    };
}
