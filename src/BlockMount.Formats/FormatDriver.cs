using System.Diagnostics;
using BlockMount.Base;

namespace BlockMount.Formats;

/// <summary>How zeros may be stored.</summary>
[Flags]
public enum ZeroFlags
{
    /// <summary>Space stays allocated where it is.</summary>
    None = 0,

    /// <summary>The range may lose its space (NBD: not NO_HOLE).</summary>
    MayUnmap = 1,
}

/// <summary>
/// Answers where guest bytes live in one image, and allocates. It reads and writes metadata only: guest data is moved by the
/// node above. It knows no graph and no job.
/// <para>Threading: every method may be called from any thread. <see cref="ResizeAsync"/>, changes of <see cref="Snapshots"/> and
/// disposal need exclusive use (a drained section).</para>
/// <para>Errors: <see cref="Base.BlockIOException"/>; an image found damaged is EIO with the place and the value.</para>
/// </summary>
public abstract class FormatDriver : IAsyncDisposable
{
    /// <summary>"raw", "qcow2": the name that -f takes.</summary>
    public abstract string FormatName { get; }

    /// <summary>Size of the disk that the guest sees, in bytes.</summary>
    public abstract long VirtualSize { get; }

    /// <summary>True if the image was opened without the right to change it.</summary>
    public abstract bool ReadOnly { get; }

    /// <summary>Unit of allocation in bytes, a power of two; 1 where there is none (raw). Discards act on whole units.</summary>
    public abstract int ClusterSize { get; }

    /// <summary>Unit of <see cref="ZeroAsync"/> in bytes, a power of two, at most <see cref="ClusterSize"/>: smaller where clusters have parts.</summary>
    public virtual int ZeroUnit => ClusterSize;

    /// <summary>Bytes that the image's host file occupies, and its data file where it has one.</summary>
    public abstract long AllocatedBytes { get; }

    /// <summary>The backing file that the image names; null if none. Resolved by <see cref="OpenPolicy"/> only.</summary>
    public abstract BackingReference? Backing { get; }

    /// <summary>The host file whose bytes are the guest's, each at its own offset and none besides; null where that is not so. Still owned by the driver.</summary>
    public virtual Storage.StorageFile? FlatFile => null;

    /// <summary>Snapshots inside the image; null where the format has none.</summary>
    public virtual IInternalSnapshots? Snapshots => null;

    /// <summary>
    /// Must be held from before a mapping or plan is asked for until the I/O it describes has ended: freed clusters are not
    /// handed out again while a lease that began before the freeing is held (I5). Costs two interlocked operations.
    /// </summary>
    public abstract MapLease EnterLease();

    /// <summary>
    /// Tells where guest bytes from <paramref name="offset"/> on live. The answer covers 1 to <paramref name="length"/> bytes.
    /// The range lies inside the image. Completes synchronously when the metadata is cached.
    /// </summary>
    public ValueTask<Mapping> MapAsync(long offset, long length, MapPurpose purpose)
    {
        Debug.Assert(length > 0);
        Debug.Assert(offset >= 0);
        Debug.Assert(offset <= VirtualSize - length);
        return MapCoreAsync(offset, length, purpose);
    }

    /// <summary>
    /// <see cref="MapAsync"/> with <see cref="MapPurpose.Transfer"/>, answered from what is in memory or not at all: reads nothing, waits for nothing, and
    /// never throws. For images that are open read-only.
    /// </summary>
    /// <returns>
    /// False if nothing can be said without loading metadata, or because it is damaged; then <see cref="Mapping.Length"/> tells for how many bytes,
    /// 1 to <paramref name="length"/>, and <see cref="MapAsync"/> tells the rest.
    /// </returns>
    public virtual bool TryMapCached(long offset, long length, out Mapping mapping)
    {
        mapping = new Mapping(MappingKind.Backing, length);
        return false;
    }

    /// <summary>Fills <paramref name="buffer"/> with the guest bytes at <paramref name="offset"/> that <paramref name="mapping"/> (Compressed) covers.</summary>
    public virtual ValueTask ReadCompressedAsync(Mapping mapping, long offset, Memory<byte> buffer) =>
        throw new UnreachableException();

    /// <summary>
    /// Plans a write of guest bytes. In-place ranges return a plan without allocation; new clusters return one that must be
    /// committed or abandoned. May wait for other allocations of the same clusters. May ask the caller to wait: <see cref="WritePlan.MustWait"/>.
    /// </summary>
    public ValueTask<WritePlan> PrepareWriteAsync(long offset, long length)
    {
        Debug.Assert(!ReadOnly);
        Debug.Assert(length > 0);
        Debug.Assert(offset >= 0);
        Debug.Assert(offset <= VirtualSize - length);
        return PrepareWriteCoreAsync(offset, length);
    }

    /// <summary>
    /// Completes when every request has ended that held a lease at the call; see <see cref="WritePlan.MustWait"/>. The caller holds no lease.
    /// </summary>
    public virtual ValueTask OlderRequestsEndedAsync() => ValueTask.CompletedTask;

    /// <summary>Makes the tables point to clusters whose data has been written. On failure the allocation is still pending.</summary>
    public abstract ValueTask CommitWriteAsync(PendingAllocation allocation);

    /// <summary>Gives clusters back that were never linked. Does not fail: at worst the clusters leak.</summary>
    public abstract ValueTask AbandonWriteAsync(PendingAllocation allocation);

    /// <summary>
    /// Stores one whole guest cluster compressed, whatever it was before. <paramref name="cluster"/> has <see cref="ClusterSize"/> bytes, or
    /// reaches the end of the disk; <paramref name="offset"/> is a multiple of <see cref="ClusterSize"/>. Unlike other guest data it is
    /// written by the driver, because it has no flat place in the file. Compresses on the caller's thread.
    /// </summary>
    /// <returns>False if compression saves nothing: nothing was written, and the node writes the cluster as it is.</returns>
    /// <exception cref="BlockIOException">EOPNOTSUPP: the image cannot hold compressed clusters.</exception>
    public virtual ValueTask<bool> WriteCompressedAsync(long offset, ReadOnlyMemory<byte> cluster) =>
        throw new BlockIOException(Errno.EOPNOTSUPP, $"compressed write to a {FormatName} image");

    /// <summary>
    /// Makes a range read as zeros by metadata alone. It starts on a boundary of <see cref="ZeroUnit"/> and ends on one or at the end of the image.
    /// Either it consists of whole clusters, or it lies in one.
    /// </summary>
    /// <returns>False if the format cannot say "zero" there (then nothing was changed and the node writes zeros).</returns>
    public abstract ValueTask<bool> ZeroAsync(long offset, long length, ZeroFlags flags);

    /// <summary>
    /// Drops whole clusters where the format can do so without letting an older value or the backing file show through; the rest
    /// keeps its content. The range starts on a cluster boundary and ends on one or at the end of the image.
    /// </summary>
    public abstract ValueTask DiscardAsync(long offset, long length);

    /// <summary>
    /// Everything committed before the call, and all guest data written to this image's file, is on stable storage afterwards.
    /// Metadata is written back in the order of I1-I4.
    /// </summary>
    public abstract ValueTask FlushAsync();

    /// <summary>
    /// Changes the virtual size (bytes). New space reads as zeros where there is no backing file. Needs exclusive use. Every step is on
    /// disk before the next: after a crash the image has the old or the new size.
    /// </summary>
    /// <param name="fillNewSpace">
    /// Called while the image grows, when the new space can be written but is not yet part of the disk that others would open: there the
    /// node hides what a longer backing file holds. If it fails, the size stays as it was.
    /// </param>
    /// <param name="preallocation">How much of the new space gets its place at once; only for growing.</param>
    public abstract ValueTask ResizeAsync(long size, Func<ValueTask>? fillNewSpace = null, Preallocation preallocation = Preallocation.Off);

    /// <summary>
    /// Changes what the image names as its backing file; null removes the reference. Nothing else changes: what the guest would see otherwise has been
    /// written before. On disk when it returns; after a crash the old or the new reference is there. Needs exclusive use.
    /// </summary>
    /// <exception cref="ImageFormatException">The reference cannot be stored; nothing was changed.</exception>
    /// <exception cref="Base.BlockIOException">The format has no backing files (EOPNOTSUPP), or writing failed.</exception>
    public virtual ValueTask SetBackingReferenceAsync(BackingReference? backing) =>
        throw new Base.BlockIOException(Base.Errno.EOPNOTSUPP, $"changing the backing file of a {FormatName} image");

    /// <summary>Clean close: flushes, returns quarantined clusters, closes the file.</summary>
    public abstract ValueTask DisposeAsync();

    /// <summary>
    /// As <see cref="DisposeAsync"/>, by whoever has called <see cref="FlushAsync"/> under exclusive use and has let nobody write since: flushes once more only where closing itself
    /// changes something.
    /// </summary>
    public virtual ValueTask CloseFlushedAsync() => DisposeAsync();

    /// <inheritdoc cref="MapAsync"/>
    protected abstract ValueTask<Mapping> MapCoreAsync(long offset, long length, MapPurpose purpose);

    /// <inheritdoc cref="PrepareWriteAsync"/>
    protected abstract ValueTask<WritePlan> PrepareWriteCoreAsync(long offset, long length);
}

/// <summary>Ends on disposal; see <see cref="FormatDriver.EnterLease"/>. Dispose exactly once.</summary>
public readonly struct MapLease : IDisposable
{
    private readonly ReclaimEpoch? _owner;
    private readonly int _slot;

    /// <summary>A lease of <paramref name="owner"/>; with null a lease that protects nothing (read-only images free nothing).</summary>
    public MapLease(ReclaimEpoch? owner, int slot)
    {
        _owner = owner;
        _slot = slot;
    }

    /// <summary>Ends the lease.</summary>
    public void Dispose() => _owner?.Exit(_slot);
}
