using BlockMount.Base;
using BlockMount.Block.Graph;
using BlockMount.Block.Options;
using BlockMount.Formats;
using BlockMount.Storage;

namespace BlockMount.Block.Nodes;

/// <summary>
/// A vertex of the block graph: something that can be read, written, zeroed, discarded, flushed and asked for its
/// allocation. Ranges lie inside <see cref="Size"/>: the device has checked them. Any thread, concurrently.
/// </summary>
public abstract class Node : IEdgeUser, IAsyncDisposable
{
    // Replaced as a whole under the graph's mutex; read without it.
    private NodeEdge[] _parents = [];
    private NodeEdge[] _children = [];

    // Set when the last reference has gone; whoever hears of that later has nothing to do.
    private bool _isClosed;

    // Made when first asked for; one for each node, because it counts what the file above has grown by.
    private NodeFile? _asFile;

    /// <summary>Unique name in the graph.</summary>
    public abstract string Name { get; }

    /// <summary>Format driver's name, as "qcow2".</summary>
    public abstract string DriverName { get; }

    /// <summary>Name of the host file, for people.</summary>
    public abstract string FileName { get; }

    /// <summary>Guest-visible size in bytes.</summary>
    public abstract long Size { get; }

    /// <summary>True if writes are refused.</summary>
    public abstract bool ReadOnly { get; }

    /// <summary>Bytes the host file of this node occupies (not those of its backing files).</summary>
    public abstract long AllocatedBytes { get; }

    /// <summary>Unit of allocation in bytes; 1 where there is none.</summary>
    public abstract int ClusterSize { get; }

    /// <summary>The node whose content shows through where this one holds nothing; null at the base.</summary>
    public abstract Node? Backing { get; }

    /// <summary>Snapshots inside the image; null where there are none to be had. Changes need a drained device.</summary>
    public virtual IInternalSnapshots? Snapshots => null;

    /// <summary>The host file whose bytes are what this node shows, each at its own offset; null where that is not so. Still owned by the node.</summary>
    public virtual StorageFile? FlatFile => null;

    /// <summary>Bytes that <see cref="IndexBelow"/> was given; 0 while reads go from node to node.</summary>
    public virtual long IndexBytes => 0;

    /// <summary>
    /// From now on what shows through from below is found in one map of all nodes below this one, which starts empty; an earlier map is dropped. Only the
    /// root of a graph has one. Nodes that show nothing through ignore it. Needs a drained device, and is due whenever the graph below has changed.
    /// </summary>
    /// <param name="bytes">Memory for the map; 0 for none.</param>
    public virtual void IndexBelow(long bytes)
    {
    }

    /// <summary>Fills the buffer (not empty).</summary>
    public abstract ValueTask ReadAsync(long offset, Memory<byte> buffer);

    /// <summary>Writes the buffer (not empty). On failure any part of it may have been written.</summary>
    public abstract ValueTask WriteAsync(long offset, ReadOnlyMemory<byte> buffer);

    /// <summary>
    /// Writes whole clusters (of <see cref="ClusterSize"/>; the last one of the disk may be short) compressed, or as they are where compression
    /// saves nothing. On failure any part may have been written.
    /// </summary>
    /// <exception cref="BlockIOException">EOPNOTSUPP: this node cannot. EINVAL: not whole clusters.</exception>
    public virtual ValueTask WriteCompressedAsync(long offset, ReadOnlyMemory<byte> buffer) =>
        throw new BlockIOException(Errno.EOPNOTSUPP, $"compressed write to '{Name}'");

    /// <summary>Makes the range read as zeros, byte-exact, by metadata where possible.</summary>
    public abstract ValueTask ZeroAsync(long offset, long length, ZeroFlags flags);

    /// <summary>Advice that the content is no longer needed; whole clusters may read as zeros afterwards.</summary>
    public abstract ValueTask DiscardAsync(long offset, long length);

    /// <summary>Everything completed before the call is on stable storage afterwards.</summary>
    public abstract ValueTask FlushAsync();

    /// <summary>
    /// Status of the range's first bytes; the answer covers 1 to <paramref name="length"/> bytes. With
    /// <see cref="MapPurpose.Transfer"/> holes of host files may be taken for data, and what a backing file holds may come without its exact depth.
    /// </summary>
    public abstract ValueTask<BlockStatus> StatusAsync(long offset, long length, MapPurpose purpose);

    /// <summary>Changes the size (bytes). Needs a drained device. New space reads as zeros.</summary>
    /// <param name="preallocation">How much of the new space gets its place at once; only for growing.</param>
    public abstract ValueTask ResizeAsync(long size, Preallocation preallocation = Preallocation.Off);

    /// <summary>Closes this node, then those below that nobody else uses.</summary>
    public abstract ValueTask DisposeAsync();

    /// <summary>Who uses this node; the order is that in which they came.</summary>
    public IReadOnlyList<NodeEdge> Parents => Volatile.Read(ref _parents);

    /// <summary>What this node uses.</summary>
    public IReadOnlyList<NodeEdge> Children => Volatile.Read(ref _children);

    /// <summary>True if a command made this node by name: it stays until a command deletes it (FEATURES N6).</summary>
    public bool IsMonitorOwned { get; internal set; }

    /// <summary>Opened for reading where nobody writes (option auto-read-only): a transaction that brings a writer opens it for writing. Changed on the control loop.</summary>
    public bool AutoReadOnly { get; internal set; }

    /// <summary>True if writes are refused now, and a writer is welcome all the same.</summary>
    public virtual bool WaitsForWriter => ReadOnly && AutoReadOnly;

    /// <summary>False (discard=ignore): discards end here, and zeroes keep their space. Replaced only in a drained section.</summary>
    public bool PassesDiscards { get; internal set; } = true;

    /// <summary>What a command asked for when it made or last reopened this node; null for a node that was opened otherwise. Control loop only.</summary>
    internal NodeOptions? AddedWith { get; set; }

    /// <summary>True for nodes that show what their file shows, each byte at its own offset.</summary>
    public virtual bool IsFilter => false;

    /// <summary>True if an overlay of this node could name it as backing file, and it can have one itself.</summary>
    public virtual bool SupportsBacking => false;

    /// <inheritdoc/>
    public string UserDescription => $"node '{Name}'";

    /// <summary>The graph that knows this node by its name; null before it is adopted and after it is closed.</summary>
    internal NodeGraph? Graph { get; set; }

    /// <summary>
    /// Brings the range, which lies inside <see cref="Size"/>, up into the first image below or at this node, where it shows through from that image's backing node and is not zero there.
    /// Excludes writes of the same clusters, whoever makes them. What is in the image already stays as it is.
    /// </summary>
    /// <param name="bottom">The lowest node to copy from; null for all.</param>
    internal virtual ValueTask CopyUpAsync(long offset, long length, Node? bottom) => ValueTask.CompletedTask;

    /// <summary>This node as the file of a format: the host file itself where the node is one, so that nothing stands between. Owned by the node.</summary>
    internal virtual StorageFile AsFile() => _asFile ??= new NodeFile(this);

    /// <summary>
    /// Watches the writes to this node's file from now on: <paramref name="exceeded"/> is told once, by how many bytes a write went beyond <paramref name="threshold"/>.
    /// 0 for the threshold ends the watch. Any thread tells it; it must not throw or wait.
    /// </summary>
    internal virtual void SetWriteThreshold(long threshold, Action<long> exceeded) =>
        throw new GraphException($"Block node '{Name}' is no host file: a write threshold is set on the node of the file");

    /// <summary>Bytes; 0 if no write threshold is set, or it has been exceeded.</summary>
    public virtual long WriteThreshold => 0;

    /// <summary>Where the farthest write to this node has ended, in bytes of its disk; 0 before the first one, and where nobody counts.</summary>
    public virtual long WriteHighestOffset => 0;

    /// <summary>The first child of that role; null if there is none.</summary>
    internal NodeEdge? ChildIn(string role) => Array.Find(Volatile.Read(ref _children), edge => edge.Role == role);

    /// <summary>Gives the node its name in a graph.</summary>
    internal virtual void Rename(string name) => throw new InvalidOperationException($"node '{Name}' keeps its name");

    /// <summary>
    /// Requests must not be held back from now on: somebody waits for those in flight. Calls may be nested; one <see cref="EndDrain"/> for each.
    /// </summary>
    internal virtual void BeginDrain()
    {
    }

    /// <summary>Requests may be held back again.</summary>
    internal virtual void EndDrain()
    {
    }

    void IEdgeUser.ChildReplaced(NodeEdge edge) => OnChildReplaced(edge);

    /// <summary>An edge of this node leads to another child now.</summary>
    internal virtual void OnChildReplaced(NodeEdge edge)
    {
    }

    /// <summary>An edge of this node is gone.</summary>
    internal virtual void OnChildRemoved(NodeEdge edge)
    {
    }

    /// <summary>The flags of a zero request that this node heeds.</summary>
    private protected ZeroFlags Allowed(ZeroFlags flags) => PassesDiscards ? flags : flags & ~ZeroFlags.MayUnmap;

    internal void AddParent(NodeEdge edge) => Volatile.Write(ref _parents, [.. _parents, edge]);

    internal void RemoveParent(NodeEdge edge) => Volatile.Write(ref _parents, Array.FindAll(_parents, other => other != edge));

    internal void AddChild(NodeEdge edge)
    {
        Volatile.Write(ref _children, [.. _children, edge]);
        OnChildReplaced(edge);
    }

    internal void RemoveChild(NodeEdge edge)
    {
        Volatile.Write(ref _children, Array.FindAll(_children, other => other != edge));
        OnChildRemoved(edge);
    }

    /// <summary>Closes this node if nobody uses or owns it any more.</summary>
    internal async ValueTask CloseIfUnusedAsync()
    {
        if (_parents.Length == 0 && !IsMonitorOwned && !_isClosed)
        {
            _isClosed = true;
            Graph?.Forget(this);
            // What an image writes when it is closed goes through the filters below it.
            using Unthrottled unthrottled = Unthrottled.Begin(this);
            await DisposeAsync();
        }
    }

    /// <summary>Lets go of everything below, and closes what nobody else uses; the last step of closing a node. Every child is let go, whatever fails.</summary>
    private protected async ValueTask ReleaseChildrenAsync()
    {
        Exception? failure = null;
        foreach (NodeEdge edge in Children)
        {
            edge.Detach();
            try
            {
                await edge.Child.CloseIfUnusedAsync();
            }
            catch (Exception error)
            {
                // The first failure is thrown below, when nothing is left open.
                failure ??= error;
            }
        }

        if (failure is not null)
        {
            System.Runtime.ExceptionServices.ExceptionDispatchInfo.Throw(failure);
        }
    }
}
