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
    private readonly StorageFile? _dataFile;
    private readonly Geometry _geometry;
    private readonly GuestTables _tables;
    private readonly FreedClusters _freed;
    private readonly ReclaimEpoch _epoch;
    private readonly Action _compressedFreed;

    /// <param name="dataFile">The external data file; null if guest data lives in <paramref name="file"/>.</param>
    /// <param name="compressedFreed">Called, under the mutex, when a compressed cluster loses its entry.</param>
    public MetadataWriter(
        StorageFile file,
        StorageFile? dataFile,
        Geometry geometry,
        GuestTables tables,
        ClusterAllocator allocator,
        FreedClusters freed,
        ReclaimEpoch epoch,
        WriteBackOrder order,
        OverlapChecks checks,
        Action compressedFreed)
    {
        _file = file;
        _dataFile = dataFile;
        _geometry = geometry;
        _tables = tables;
        _freed = freed;
        _epoch = epoch;
        _compressedFreed = compressedFreed;
        Allocator = allocator;
        Order = order;
        Checks = checks;
        Hidden = new HiddenClusters(epoch);
        L2Tables = new L2TableAllocation(file, geometry, tables, allocator, freed, order, checks);
    }

    /// <summary>Held while metadata is changed or written back.</summary>
    public AsyncMutex Mutex { get; } = new();

    /// <summary>Guest clusters (by index) that an allocation, zero or discard is working on.</summary>
    public RangeLock GuestClusters { get; } = new();

    /// <summary>Free clusters.</summary>
    public ClusterAllocator Allocator { get; }

    /// <summary>The order of write-back.</summary>
    public WriteBackOrder Order { get; }

    /// <summary>Which clusters hold metadata, and what may be written where.</summary>
    public OverlapChecks Checks { get; }

    /// <summary>Creation of L2 tables.</summary>
    public L2TableAllocation L2Tables { get; }

    /// <summary>Guest clusters whose place was data a short while ago. Under the mutex.</summary>
    public HiddenClusters Hidden { get; }

    /// <summary>Puts the host clusters of an entry that was just overwritten into quarantine. Under the mutex.</summary>
    public void Unlink(L2Entry old, FreeReason reason = FreeReason.Other)
    {
        if (old.IsCompressed)
        {
            (long offset, int length) = old.CompressedExtent(_geometry.ClusterBits);
            UnlinkData(_geometry.HostClustersOf(offset, length), reason);
            _compressedFreed();
        }
        else if (_geometry.L2.HasHostCluster(old) && !_geometry.HasDataFile)
        {
            UnlinkData(new HostRun(_geometry.HostClusterOf(AlignedDataOffset(old)), 1), reason);
        }
    }

    /// <summary>No freed cluster waits in quarantine. Under the mutex.</summary>
    internal bool IsQuarantineEmpty => _freed.IsEmpty;

    /// <summary>
    /// Waits until everybody has left who was there at the call. The caller holds no lease, no lock and nothing that a lease holder waits for.
    /// </summary>
    public async ValueTask OlderRequestsEndedAsync()
    {
        long epoch = _epoch.Current;
        while (true)
        {
            Task somebodyLeft = _epoch.NextEmptySlotAsync();
            using (AsyncMutex.Releaser held = await Mutex.LockAsync())
            {
                if (_epoch.HasPassed(epoch))
                {
                    return;
                }
            }

            await somebodyLeft;
        }
    }

    /// <summary>Puts a run that no table in memory names any more into quarantine. Under the mutex.</summary>
    public void Unlink(HostRun run) => _freed.Unlinked(run, FreeReason.Other);

    /// <summary>See <see cref="FreedClusters.PunchKeptAsync"/>. Under the mutex.</summary>
    public ValueTask PunchKeptAsync(HostRun run) => _freed.PunchKeptAsync(run);

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

    /// <summary>
    /// Writes the header anew (<see cref="HeaderRewriter"/>). What it refers to is on disk. Under the mutex.
    /// </summary>
    /// <returns>The header as it is now.</returns>
    /// <exception cref="ImageFormatException">The new header cannot be stored; nothing was changed.</exception>
    internal async ValueTask<Qcow2Header> RewriteHeaderAsync(Func<Qcow2Header, Qcow2Header> change)
    {
        Checks.Health.ThrowIfCorrupt("change of the header");
        Qcow2Header header = await HeaderRewriter.RewriteAsync(_file, Order, change);
        await Checks.Health.MarkAgainIfCorruptAsync();
        return header;
    }

    /// <summary>Makes everything durable; see <see cref="FormatDriver.FlushAsync"/>. Takes the mutex, but not for the final flush.</summary>
    /// <param name="lazily">See <see cref="WriteBackOrder.WriteBackAsync"/>.</param>
    public async ValueTask FlushAsync(bool lazily = true)
    {
        IReadOnlyList<FreedClusters.Freed> unlinked;
        using (AsyncMutex.Releaser held = await Mutex.LockAsync())
        {
            unlinked = await WriteBackAsync(lazily);
        }

        try
        {
            if (_dataFile is not null)
            {
                await _dataFile.FlushAsync();
            }

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

        for (int i = 0; HistoricBug.Is(Bug.D3HolePunchedAfterReuse) && i < unlinked.Count; i++)
        {
            await _freed.PunchCoreAsync(unlinked[i].Run);
        }
    }

    /// <summary>
    /// Flushes until nothing waits, lazy refcounts included, and clears the dirty bit last: for a clean close, when no lease is held any more.
    /// </summary>
    /// <param name="isFlushed">See <see cref="FormatDriver.CloseFlushedAsync"/>.</param>
    public async ValueTask FlushForCloseAsync(bool isFlushed)
    {
        if (!isFlushed || HasWork)
        {
            await FlushAsync(lazily: false);
        }

        if (HasWork)
        {
            // Releasing quarantined clusters has changed refcounts, which want to be written; that frees nothing new.
            await FlushAsync(lazily: false);
        }

        await Order.ClearDirtyBitAsync();
    }

    private bool HasWork => Order.HasDirty(_tables.L1) || !_freed.IsEmpty;

    // Freed as guest data, a table's cluster would be punched and handed out again.
    private void UnlinkData(HostRun run, FreeReason reason)
    {
        Checks.CheckData(run);
        _freed.Unlinked(run, reason);
    }

    private long AlignedDataOffset(L2Entry entry) => _geometry.OffsetInCluster(entry.HostOffset) == 0
        ? entry.HostOffset
        : throw Checks.Health.Damaged("an L2 entry names a cluster that is not aligned", entry.HostOffset);

    private async ValueTask<IReadOnlyList<FreedClusters.Freed>> WriteBackAsync(bool lazily = true)
    {
        IReadOnlyList<FreedClusters.Freed> unlinked = _freed.TakeUnlinked();
        if (HistoricBug.Is(Bug.I4ReleasedBeforeTables))
        {
            _freed.NowDurable(unlinked);
            await ReleaseReadyAsync();
            unlinked = [];
        }

        try
        {
            await Order.WriteBackAsync(_tables.L1, lazily);
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
        if (Checks.Health.IsCorrupt)
        {
            // Their refcounts may be wrong, too.
            return;
        }

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
