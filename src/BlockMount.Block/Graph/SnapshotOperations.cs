using BlockMount.Base;
using BlockMount.Block.Devices;
using BlockMount.Block.Nodes;
using BlockMount.Formats;
using BlockMount.Formats.Qcow2;
using BlockMount.Storage;

namespace BlockMount.Block.Graph;

/// <summary>What blockdev-snapshot-sync is told.</summary>
public sealed record SnapshotSyncOptions
{
    /// <summary>A device, or else <see cref="NodeName"/>.</summary>
    public string? Device { get; init; }

    /// <summary>A node, or else <see cref="Device"/>.</summary>
    public string? NodeName { get; init; }

    /// <summary>The overlay's file.</summary>
    public required string SnapshotFile { get; init; }

    /// <summary>The overlay's node; must be given where a node was named.</summary>
    public string? SnapshotNodeName { get; init; }

    /// <summary>The overlay's format.</summary>
    public string Format { get; init; } = "qcow2";

    /// <summary>The file is an image already (mode existing); false makes it (mode absolute-paths).</summary>
    public bool Existing { get; init; }
}

/// <summary>
/// External snapshots (FEATURES Q20, Q21): an overlay takes the place of a node for all who use it, and the node stays as it is from then on, read-only, below it. The overlay is complete and
/// durable under its name before anybody writes to it. Each operation is a part of a <see cref="GraphTransaction"/>.
/// </summary>
public static class SnapshotOperations
{
    // For a device that had only one image before; taken when it is first used.
    internal const long IndexBytesDefault = 16L << 20;

    // For tables of an image that an index and an active layer stand before from now on.
    private const long BackingCacheBytes = 1L << 20;

    /// <summary>blockdev-snapshot-sync as one change.</summary>
    public static ValueTask SnapshotSyncAsync(ControlScope scope, SnapshotSyncOptions options) =>
        GraphTransaction.RunAsync(scope, transaction => SnapshotSyncAsync(transaction, options));

    /// <summary>blockdev-snapshot as one change.</summary>
    public static ValueTask SnapshotAsync(ControlScope scope, string node, string overlay) =>
        GraphTransaction.RunAsync(scope, transaction => SnapshotAsync(transaction, node, overlay));

    /// <summary>Makes or opens the overlay and puts it on top of what the options name.</summary>
    /// <exception cref="BlockMountException">Refused, or a file cannot be made or opened; no file of it is left.</exception>
    public static async ValueTask SnapshotSyncAsync(GraphTransaction transaction, SnapshotSyncOptions options)
    {
        Node old = transaction.Graph.Find(options.Device, options.NodeName);
        CheckOnTop(old);
        CheckSync(transaction.Graph, options);
        // Beside the making of the overlay, before anybody has to wait for it: then there is little left to flush below.
        Task settled = SettleAsync(old);
        FormatNode overlay;
        try
        {
            overlay = options.Existing
                ? await OpenOverlayAsync(transaction, old, options)
                : await CreateOverlayAsync(transaction, old, options);
        }
        finally
        {
            await settled;
        }

        await AppendAsync(transaction, old, overlay);
    }

    /// <summary>Puts a node that is there already on top of another one.</summary>
    /// <exception cref="GraphException">The overlay cannot be one.</exception>
    public static async ValueTask SnapshotAsync(GraphTransaction transaction, string node, string overlay)
    {
        NodeGraph graph = transaction.Graph;
        Node old = graph.Find(node);
        Node top = graph.Find(overlay);
        CheckOnTop(old);
        if (NodePermissions.Cumulative(top).Held.HasFlag(NodePermission.ConsistentRead) || top.Parents.Count > 0)
        {
            throw new GraphException("The overlay is already in use");
        }

        if (top.IsFilter)
        {
            throw new GraphException("Filters cannot be used as overlays");
        }

        if (top.Backing is not null)
        {
            throw new GraphException("The overlay already has a backing image");
        }

        if (top is not FormatNode { SupportsBacking: true } image)
        {
            throw new GraphException("The overlay does not support backing images");
        }

        if (GraphWalk.Below([old]).Contains(top))
        {
            throw new GraphException($"Making '{old.Name}' a backing child of '{top.Name}' would create a cycle");
        }

        await SettleAsync(old);
        await AppendAsync(transaction, old, image);
    }

    /// <summary>What shows through in an overlay already gets no second one: that one's header would go on naming the first.</summary>
    /// <exception cref="GraphException">In QEMU's words.</exception>
    internal static void CheckOnTop(Node node)
    {
        if (node.Parents.FirstOrDefault(edge => edge.Role == NodeEdge.BackingRole)?.Parent is Node overlay)
        {
            throw new GraphException($"Node '{node.Name}' is busy: node is used as backing hd of '{overlay.Name}'");
        }
    }

    private static void CheckSync(NodeGraph graph, SnapshotSyncOptions options)
    {
        if (options.NodeName is not null && options.SnapshotNodeName is null)
        {
            throw new GraphException("New overlay node-name missing");
        }

        if (options.SnapshotNodeName is { } name)
        {
            if (graph.TryFindNode(name) is not null || graph.TryFindDevice(name) is not null)
            {
                throw new GraphException("New overlay node-name already in use");
            }

            NodeNames.Check(graph, name);
        }

        if (options.Format is not ("qcow2" or "raw"))
        {
            throw new GraphException($"Unknown {(options.Existing ? "driver" : "file format")} '{options.Format}'");
        }

        if (options.Format == "raw")
        {
            throw new GraphException(options.Existing ? "The overlay does not support backing images" : "Backing file not supported for file format 'raw'");
        }
    }

    private static async ValueTask<FormatNode> CreateOverlayAsync(GraphTransaction transaction, Node old, SnapshotSyncOptions options)
    {
        Qcow2CreateOptions create = new() { Size = old.Size, Backing = new BackingReference(old.FileName, old.DriverName) };
        Qcow2Create.CheckPossible(create);
        StorageOpenOptions open = FileOptionsOf(old);
        NewFile made = await transaction.Graph.Creator.CreateAsync(options.SnapshotFile, open);
        transaction.OnClean(made.DisposeAsync);
        transaction.OnAbort(made.WithdrawAsync);
        FormatNode overlay = await MakeNodeAsync(transaction, old, options, made.File, open, file => Qcow2Create.CreateAsync(file, create, hasNoName: true));
        // The image is flushed; now its name is durable as well.
        await made.PublishAsync();
        return overlay;
    }

    private static async ValueTask<FormatNode> OpenOverlayAsync(GraphTransaction transaction, Node old, SnapshotSyncOptions options)
    {
        StorageOpenOptions open = FileOptionsOf(old);
        StorageFile file = await transaction.Graph.Files.OpenAsync(options.SnapshotFile, open);
        return await MakeNodeAsync(transaction, old, options, file, open, _ => ValueTask.CompletedTask);
    }

    // Takes over the file.
    private static async ValueTask<FormatNode> MakeNodeAsync(
        GraphTransaction transaction, Node old, SnapshotSyncOptions options, StorageFile file, StorageOpenOptions open, Func<StorageFile, ValueTask> fillAsync)
    {
        FormatNode overlay;
        try
        {
            await fillAsync(file);
            DriverSettings settings = new(options.Format) { Qcow2 = (old as FormatNode)?.Settings?.Qcow2 ?? new Qcow2OpenOptions() };
            settings = settings with { Qcow2 = settings.Qcow2 with { Snapshot = null } };
            FormatDriver driver = await settings.OpenAsync(file, dataFile: null, readOnly: false);
            overlay = new FormatNode(options.SnapshotNodeName ?? "", driver, settings, new FileNode("", file, open), dataFile: null, backing: null)
            {
                PassesDiscards = old.PassesDiscards,
            };
        }
        catch
        {
            await file.DisposeAsync();
            throw;
        }

        transaction.Adopt(overlay);
        return overlay;
    }

    // As the file of the node that the overlay takes the place of; the first one, where there are filters between.
    private static StorageOpenOptions FileOptionsOf(Node old)
    {
        FileNode? file = GraphWalk.Below([old]).OfType<FileNode>().FirstOrDefault();
        return (file?.OpenedWith ?? new StorageOpenOptions()) with { ReadOnly = false, ForceShare = false };
    }

    private static async Task SettleAsync(Node old)
    {
        if (!old.ReadOnly)
        {
            using Unthrottled unthrottled = Unthrottled.Begin(old);
            await old.FlushAsync();
        }
    }

    private static async ValueTask AppendAsync(GraphTransaction transaction, Node old, FormatNode overlay)
    {
        await transaction.DrainAsync(old, overlay);
        await FreezeImageAsync(transaction, old);

        NodeEdge[] users = [.. old.Parents];
        transaction.Attach(overlay, NodeEdge.BackingRole, old);
        foreach (NodeEdge edge in users)
        {
            transaction.Move(edge, overlay);
        }

        transaction.OnCommit(() => KeepOverlay(old, overlay));
    }

    // The image that is written through the node: itself, or under filters that nobody else goes around.
    private static async ValueTask FreezeImageAsync(GraphTransaction transaction, Node old)
    {
        Node below = old;
        while (below is FilterNode filter && filter.Child.Parents.Count == 1)
        {
            below = filter.Child;
        }

        if (below is FormatNode { ReadOnly: false, Settings: not null } image)
        {
            await NodeReopening.RunAsync(transaction, image, readOnly: true, WithLessCache);
        }
        else if (!old.ReadOnly)
        {
            await old.FlushAsync();
        }
    }

    private static ValueTask KeepOverlay(Node old, FormatNode overlay)
    {
        foreach (BlockDevice device in GraphWalk.DevicesAbove([overlay]))
        {
            device.EnsureIndexBytes(IndexBytesDefault);
        }

        // The node that it took the place of was to stay until somebody deletes it, whoever uses it: so is the overlay (FEATURES N6).
        overlay.IsMonitorOwned |= old.IsMonitorOwned;
        return ValueTask.CompletedTask;
    }

    private static DriverSettings WithLessCache(DriverSettings settings) =>
        settings with { Qcow2 = settings.Qcow2 with { CacheBytes = Math.Min(settings.Qcow2.CacheBytes, BackingCacheBytes), L2CacheBytes = null, RefcountCacheBytes = null } };
}
