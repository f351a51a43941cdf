using BlockMount.Base;
using BlockMount.Base.Async;
using BlockMount.Formats.Qcow2.Allocation;
using BlockMount.Formats.Qcow2.OnDisk;
using BlockMount.Storage;

namespace BlockMount.Formats.Qcow2.Metadata;

/// <summary>
/// What a writable image has beyond a readable one: the mutex under which metadata changes, the lock of guest clusters, allocator,
/// quarantine and write-back. Lock order: guest clusters, metadata mutex, cache gate.
/// </summary>
public sealed class MetadataWriter
{
    private readonly StorageFile _file;
    private readonly Geometry _geometry;
    private readonly GuestTables _tables;
    private readonly FreedClusters _freed;
    private readonly Action _compressedFreed;

    /// <param name="compressedFreed">Called, under the mutex, when a compressed cluster loses its entry.</param>
    public MetadataWriter(
        StorageFile file,
        Geometry geometry,
        GuestTables tables,
        ClusterAllocator allocator,
        FreedClusters freed,
        WriteBackOrder order,
        Action compressedFreed)
    {
        _file = file;
        _geometry = geometry;
        _tables = tables;
        _freed = freed;
        _compressedFreed = compressedFreed;
        Allocator = allocator;
        Order = order;
        L2Tables = new L2TableAllocation(file, geometry, tables, allocator, freed, order);
    }

    /// <summary>Held while metadata is changed or written back.</summary>
    public AsyncMutex Mutex { get; } = new();

    /// <summary>Guest clusters (by index) that an allocation, zero or discard is working on.</summary>
    public RangeLock GuestClusters { get; } = new();

    /// <summary>Free clusters.</summary>
    public ClusterAllocator Allocator { get; }

    /// <summary>The order of write-back.</summary>
    public WriteBackOrder Order { get; }

    /// <summary>Creation of L2 tables.</summary>
    public L2TableAllocation L2Tables { get; }

    /// <summary>Puts the host clusters of an entry that was just overwritten into quarantine. Under the mutex.</summary>
    public void Unlink(L2Entry old)
    {
        switch (old.Kind(_geometry.Version))
        {
            case ClusterKind.Normal:
            case ClusterKind.ZeroAllocated:
                _freed.Unlinked(new HostRun(_geometry.HostClusterOf(old.HostOffset), 1));
                break;
            case ClusterKind.Compressed:
                (long offset, int length) = old.CompressedExtent(_geometry.ClusterBits);
                HostCluster first = _geometry.HostClusterOf(offset);
                _freed.Unlinked(new HostRun(first, _geometry.HostClusterOf(offset + length - 1) - first + 1));
                _compressedFreed();
                break;
            default:
                break;
        }
    }

    /// <summary>No freed cluster waits in quarantine. Under the mutex.</summary>
    internal bool IsQuarantineEmpty => _freed.IsEmpty;

    /// <summary>See <see cref="FreedClusters.Hidden"/>. Under the mutex.</summary>
    public void Hide() => _freed.Hidden();

    /// <summary>See <see cref="FreedClusters.IsHiddenOutOfSight"/>. Under the mutex.</summary>
    public bool IsHiddenOutOfSight => _freed.IsHiddenOutOfSight;

    /// <summary>Puts a run that no table in memory names any more into quarantine. Under the mutex.</summary>
    public void Unlink(HostRun run) => _freed.Unlinked(run);

    /// <summary>
    /// Writes metadata back when so much waits that the caches or the quarantine overflow. Under the mutex, before anything is changed: if
    /// it fails, the request fails and has changed nothing.
    /// </summary>
    public async ValueTask RelieveAsync()
    {
        if (_freed.IsCrowded)
        {
            IReadOnlyList<FreedClusters.Freed> unlinked = await WriteBackAsync();
            await FlushFileAsync(unlinked);
            _freed.NowDurable(unlinked);
            await ReleaseReadyAsync();
        }
        else if (Order.IsCrowded)
        {
            await Order.WriteBackAsync(_tables.L1);
        }
    }

    /// <summary>Makes everything durable; see <see cref="FormatDriver.FlushAsync"/>. Takes the mutex, but not for the final flush.</summary>
    public async ValueTask FlushAsync()
    {
        IReadOnlyList<FreedClusters.Freed> unlinked;
        using (AsyncMutex.Releaser held = await Mutex.LockAsync())
        {
            unlinked = await WriteBackAsync();
        }

        try
        {
            await _file.FlushAsync();
        }
        catch
        {
            using AsyncMutex.Releaser held = await Mutex.LockAsync();
            _freed.StillUnlinked(unlinked);
            throw;
        }

        using (AsyncMutex.Releaser held = await Mutex.LockAsync())
        {
            _freed.NowDurable(unlinked);
            await ReleaseReadyAsync();
        }
    }

    /// <summary>Flushes until nothing waits: for a clean close, when no lease is held any more.</summary>
    public async ValueTask FlushForCloseAsync()
    {
        await FlushAsync();
        // Releasing quarantined clusters changes refcounts, which want to be written; that frees nothing new.
        await FlushAsync();
    }

    private async ValueTask<IReadOnlyList<FreedClusters.Freed>> WriteBackAsync()
    {
        IReadOnlyList<FreedClusters.Freed> unlinked = _freed.TakeUnlinked();
        try
        {
            await Order.WriteBackAsync(_tables.L1);
            return unlinked;
        }
        catch
        {
            _freed.StillUnlinked(unlinked);
            throw;
        }
    }

    private async ValueTask FlushFileAsync(IReadOnlyList<FreedClusters.Freed> unlinked)
    {
        try
        {
            await _file.FlushAsync();
        }
        catch
        {
            _freed.StillUnlinked(unlinked);
            throw;
        }
    }

    private async ValueTask ReleaseReadyAsync()
    {
        try
        {
            await _freed.ReleaseReadyAsync();
        }
        catch (BlockIOException)
        {
            // The guest's data is safe; clusters that could not be freed leak, and a check will find them.
        }
    }
}
