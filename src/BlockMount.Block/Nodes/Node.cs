using BlockMount.Base;
using BlockMount.Formats;

namespace BlockMount.Block.Nodes;

/// <summary>
/// A vertex of the block graph: something that can be read, written, zeroed, discarded, flushed and asked for its
/// allocation. Ranges lie inside <see cref="Size"/>: the device has checked them. Any thread, concurrently.
/// </summary>
public abstract class Node : IAsyncDisposable
{
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
    public virtual Storage.StorageFile? FlatFile => null;

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

    /// <summary>Closes this node, then its backing nodes.</summary>
    public abstract ValueTask DisposeAsync();
}
