using BlockMount.Base.Async;
using BlockMount.Formats.Qcow2.Metadata;
using BlockMount.Formats.Qcow2.OnDisk;

namespace BlockMount.Formats.Qcow2.Translation;

/// <summary>
/// Changes L2 entries of whole clusters without writing data: zeroes and discards. Works slice by slice, under the lock of the guest
/// clusters and the metadata mutex, so it never crosses an allocation in flight.
/// </summary>
public sealed class DropClusters
{
    private readonly Geometry _geometry;
    private readonly GuestTables _tables;
    private readonly MetadataWriter _writer;

    public DropClusters(Geometry geometry, GuestTables tables, MetadataWriter writer, bool hasBacking)
    {
        _geometry = geometry;
        _tables = tables;
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
                await DropInSliceAsync(first, (int)here, mode);
            }
            finally
            {
                _writer.GuestClusters.Release(guestLock);
            }

            first += here;
        }
    }

    private async ValueTask DropInSliceAsync(GuestCluster first, int count, DropMode mode)
    {
        using AsyncMutex.Releaser held = await _writer.Mutex.LockAsync();
        await _writer.RelieveAsync();
        await _writer.L2Tables.EnsureWritableAsync(first);
        MetadataSlice slice = await _tables.GetSliceForWriteAsync(first);
        int index = _tables.IndexInSlice(first);
        bool hidden = false;
        for (int i = 0; i < count; i++)
        {
            L2Entry old = new(slice.ReadEntry(index + i));
            L2Entry dropped = Dropped(old, mode);
            if (dropped != old)
            {
                slice.WriteEntry(index + i, dropped.Raw);
                if (dropped.HostOffset == 0)
                {
                    _writer.Unlink(old);
                }
                else
                {
                    hidden = true;
                }
            }
        }

        if (hidden)
        {
            _writer.Hide();
        }
    }

    private L2Entry Dropped(L2Entry old, DropMode mode)
    {
        ClusterKind kind = old.Kind(_geometry.Version);
        switch (mode)
        {
            case DropMode.Forget:
                return L2Entry.Unallocated;
            case DropMode.Discard:
                return kind == ClusterKind.Unallocated ? old : Nothing;
            case DropMode.ZeroAndKeep when kind == ClusterKind.Normal && old.IsCopied:
                return L2Entry.ForZeroAllocated(old.HostOffset);
            case DropMode.ZeroAndKeep when kind == ClusterKind.ZeroAllocated:
                return old;
            default:
                return kind == ClusterKind.Unallocated && !HasBacking ? old : Nothing;
        }
    }

    // The entry that reads as zeros without a host cluster.
    private L2Entry Nothing => HasBacking ? L2Entry.Zero : L2Entry.Unallocated;

    private enum DropMode
    {
        ZeroAndFree,
        ZeroAndKeep,
        Discard,
        Forget,
    }
}
