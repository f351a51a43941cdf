using BlockMount.Base;
using BlockMount.Base.Async;
using BlockMount.Formats.Qcow2.Allocation;
using BlockMount.Formats.Qcow2.Metadata;
using BlockMount.Formats.Qcow2.OnDisk;
using BlockMount.Storage;

namespace BlockMount.Formats.Qcow2.Translation;

/// <summary>
/// Changes L2 entries without writing data: zeroes, of whole clusters or of subclusters, and discards. Works slice by slice, under the lock of the guest
/// clusters and the metadata mutex, so it never crosses an allocation in flight.
/// </summary>
public sealed class DropClusters
{
    private readonly StorageFile? _punched;
    private readonly Geometry _geometry;
    private readonly GuestTables _tables;
    private readonly MappingLookup _lookup;
    private readonly MetadataWriter _writer;
    private readonly bool _discardKeeps;

    // Host clusters that the change under way discards and keeps. Guarded by the metadata mutex.
    private readonly List<HostRun> _kept = [];

    /// <param name="punched">
    /// The data file, if space of clusters that are given up there goes back to the host; otherwise null. Clusters of the image itself go through the
    /// quarantine.
    /// </param>
    public DropClusters(
        StorageFile? punched,
        Geometry geometry,
        GuestTables tables,
        MappingLookup lookup,
        MetadataWriter writer,
        bool hasBacking,
        bool discardKeeps)
    {
        _punched = punched;
        _discardKeeps = discardKeeps;
        _geometry = geometry;
        _tables = tables;
        _lookup = lookup;
        _writer = writer;
        HasBacking = hasBacking;
    }

    /// <summary>Something shows through where this image holds nothing. Changed under exclusive use.</summary>
    internal bool HasBacking { get; set; }

    /// <summary>See <see cref="FormatDriver.ZeroAsync"/>; <paramref name="count"/> whole clusters.</summary>
    public async ValueTask<bool> ZeroAsync(GuestCluster first, long count, ZeroFlags flags)
    {
        bool mayUnmap = flags.HasFlag(ZeroFlags.MayUnmap);
        if (_geometry.Version < 3 && (HasBacking || !mayUnmap))
        {
            return false;
        }

        DropMode mode = mayUnmap ? DropMode.ZeroAndFree : DropMode.ZeroAndKeep;
        await RunAsync(first, count, mode, skipMissingTables: !HasBacking);
        return true;
    }

    /// <summary>The same for the subclusters in <paramref name="mask"/> of one cluster, not all of them. False where the cluster is compressed.</summary>
    public async ValueTask<bool> ZeroPartAsync(GuestCluster cluster, uint mask, ZeroFlags flags)
    {
        if (!HasBacking && !_tables.L1EntryOf(cluster).IsPresent)
        {
            return true;
        }

        RangeLock.Entry guestLock = await _writer.GuestClusters.LockAsync(cluster.Index, 1);
        try
        {
            return await ZeroSubclustersAsync(cluster, mask, flags.HasFlag(ZeroFlags.MayUnmap));
        }
        finally
        {
            _writer.GuestClusters.Release(guestLock);
        }
    }

    /// <summary>See <see cref="FormatDriver.DiscardAsync"/>. Where the backing file shows through already, it goes on doing so.</summary>
    public async ValueTask DiscardAsync(GuestCluster first, long count)
    {
        if (_geometry.Version >= 3 || !HasBacking)
        {
            await RunAsync(first, count, DropMode.Discard, skipMissingTables: true);
        }
    }

    /// <summary>Forgets clusters beyond the end of the disk: their entries become unallocated, whatever shows through.</summary>
    public ValueTask ForgetAsync(GuestCluster first, long count) => RunAsync(first, count, DropMode.Forget, skipMissingTables: true);

    private async ValueTask RunAsync(GuestCluster first, long count, DropMode mode, bool skipMissingTables)
    {
        GuestCluster end = first + count;
        while (first.Index < end.Index)
        {
            if (skipMissingTables && !_tables.L1EntryOf(first).IsPresent)
            {
                first = new GuestCluster((_geometry.L1Index(first) + 1) * _geometry.L2Entries);
                continue;
            }

            long here = Math.Min(end - first, _geometry.L2SliceEntries - _tables.IndexInSlice(first));
            RangeLock.Entry guestLock = await _writer.GuestClusters.LockAsync(first.Index, here);
            try
            {
                List<HostRun>? givenUp = _punched is not null && mode is DropMode.Discard or DropMode.ZeroAndFree ? [] : null;
                await DropInSliceAsync(first, (int)here, mode, givenUp);
                foreach (HostRun run in givenUp ?? [])
                {
                    await PunchAsync(run);
                }
            }
            finally
            {
                _writer.GuestClusters.Release(guestLock);
            }

            first += here;
        }
    }

    // Under the lock of the guest clusters: what is written there later is a new allocation and waits, so no hole hits it. What was written in place
    // by older requests is given up anyway.
    private async ValueTask PunchAsync(HostRun run)
    {
        try
        {
            await _punched!.PunchHoleAsync(_geometry.OffsetOf(run.Start), run.Count << _geometry.ClusterBits);
        }
        catch (BlockIOException)
        {
            // The space stays with the file: nothing of the guest's depends on it.
        }
    }

    // The clusters of a data file that held data go to givenUp.
    private async ValueTask DropInSliceAsync(GuestCluster first, int count, DropMode mode, List<HostRun>? givenUp)
    {
        using AsyncMutex.Releaser held = await _writer.Mutex.LockAsync();
        await _writer.RelieveAsync();
        await _writer.L2Tables.EnsureWritableAsync(first);
        MetadataSlice slice = await _tables.GetSliceForWriteAsync(first);
        int index = _tables.IndexInSlice(first);
        _kept.Clear();
        for (int i = 0; i < count; i++)
        {
            L2Entry old = _tables.Read(slice, index + i);
            L2Entry dropped = Dropped(old, mode);
            if (mode == DropMode.Discard && dropped != old && _geometry.L2.HasHostCluster(dropped))
            {
                long host = _lookup.CheckedDataOffset(dropped, _geometry.OffsetOf(first + i));
                _kept.Add(new HostRun(_geometry.HostClusterOf(host), 1));
            }

            Change(slice, index + i, first + i, old, dropped);
            if (givenUp is not null && dropped != old && _geometry.L2.DataMask(old) != 0)
            {
                Add(givenUp, new HostCluster(first.Index + i));
            }
        }

        await PunchKeptAsync();
    }

    private static void Add(List<HostRun> runs, HostCluster cluster)
    {
        if (runs.Count > 0 && runs[^1].End == cluster)
        {
            runs[^1] = new HostRun(runs[^1].Start, runs[^1].Count + 1);
        }
        else
        {
            runs.Add(new HostRun(cluster, 1));
        }
    }

    private async ValueTask PunchKeptAsync()
    {
        for (int i = 0; i < _kept.Count;)
        {
            HostRun run = _kept[i++];
            while (i < _kept.Count && _kept[i].Start == run.End)
            {
                run = run with { Count = run.Count + 1 };
                i++;
            }

            await _writer.PunchKeptAsync(run);
        }
    }

    private async ValueTask<bool> ZeroSubclustersAsync(GuestCluster cluster, uint mask, bool mayUnmap)
    {
        using AsyncMutex.Releaser held = await _writer.Mutex.LockAsync();
        await _writer.RelieveAsync();
        await _writer.L2Tables.EnsureWritableAsync(cluster);
        MetadataSlice slice = await _tables.GetSliceForWriteAsync(cluster);
        int index = _tables.IndexInSlice(cluster);
        L2Entry old = _tables.Read(slice, index);
        if (_lookup.KindAt(old, _geometry.OffsetOf(cluster)) == ClusterKind.Compressed)
        {
            return false;
        }

        L2Entry zeroed = old.WithBits(old.DataBits & ~mask, old.ZeroBits | mask);
        bool isEmpty = mayUnmap && zeroed.DataBits == 0;
        Change(slice, index, cluster, old, isEmpty ? default(L2Entry).WithBits(0, zeroed.ZeroBits) : zeroed);
        return true;
    }

    private void Change(MetadataSlice slice, int index, GuestCluster cluster, L2Entry old, L2Entry changed)
    {
        if (changed == old)
        {
            return;
        }

        _tables.Write(slice, index, changed);
        if (!_geometry.HasDataFile && !_geometry.L2.HasHostCluster(changed))
        {
            _writer.Unlink(old, FreeReason.Request);
        }
        else if ((_geometry.L2.DataMask(old) & ~_geometry.L2.DataMask(changed)) != 0)
        {
            _writer.Hidden.Add(cluster, 1);
        }
    }

    private L2Entry Dropped(L2Entry old, DropMode mode)
    {
        switch (mode)
        {
            case DropMode.Forget:
                return L2Entry.Unallocated;
            case DropMode.Discard when _discardKeeps && old.IsCopied && _geometry.L2.HasHostCluster(old):
            case DropMode.ZeroAndKeep when old.IsCopied && _geometry.L2.HasHostCluster(old):
                return _geometry.L2.Own(old.HostOffset, 0, _geometry.L2.AllSubclusters);
            case DropMode.Discard:
                return ShowsBacking(old) ? L2Entry.Unallocated : Nothing;
            case DropMode.ZeroAndKeep when IsZeroWithHost(old):
                return old;
            default:
                return !HasBacking && ShowsBacking(old) ? L2Entry.Unallocated : Nothing;
        }
    }

    // Nothing in the cluster is said by this image.
    private bool ShowsBacking(L2Entry entry) => _geometry.L2.DataMask(entry) == 0 && _geometry.L2.ZeroMask(entry) == 0;

    private bool IsZeroWithHost(L2Entry entry) =>
        _geometry.L2.HasHostCluster(entry) && _geometry.L2.ZeroMask(entry) == _geometry.L2.AllSubclusters;

    // The entry that reads as zeros without a host cluster.
    private L2Entry Nothing => HasBacking ? _geometry.L2.Zero : L2Entry.Unallocated;

    private enum DropMode
    {
        ZeroAndFree,
        ZeroAndKeep,
        Discard,
        Forget,
    }
}
