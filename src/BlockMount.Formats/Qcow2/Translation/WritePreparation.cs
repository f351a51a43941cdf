using BlockMount.Base.Async;
using BlockMount.Formats.Qcow2.Allocation;
using BlockMount.Formats.Qcow2.Metadata;
using BlockMount.Formats.Qcow2.OnDisk;
using BlockMount.Storage;

namespace BlockMount.Formats.Qcow2.Translation;

/// <summary>
/// The slow half of a write: finds or allocates host clusters. Lock order: guest clusters, then the metadata mutex. The guest
/// clusters stay locked until the allocation is committed or abandoned, so nobody else can allocate, zero or discard them.
/// </summary>
public sealed class WritePreparation
{
    // More than the largest FUSE request, less than what would hold a big slice's neighbours up.
    private const int AllocationBytesMax = 4 << 20;

    private readonly StorageFile _file;
    private readonly Geometry _geometry;
    private readonly GuestTables _tables;
    private readonly MappingLookup _lookup;
    private readonly MetadataWriter _writer;

    public WritePreparation(StorageFile file, Geometry geometry, GuestTables tables, MappingLookup lookup, MetadataWriter writer)
    {
        _file = file;
        _geometry = geometry;
        _tables = tables;
        _lookup = lookup;
        _writer = writer;
    }

    /// <summary>Plans the write's first bytes; see <see cref="FormatDriver.PrepareWriteAsync"/>.</summary>
    public async ValueTask<WritePlan> PrepareAsync(long offset, long length)
    {
        while (true)
        {
            await _lookup.LoadAsync(offset);
            if (_lookup.TryPlanInPlace(offset, length, out WritePlan plan))
            {
                return plan;
            }

            GuestCluster first = _geometry.GuestClusterOf(offset);
            long wanted = ClustersWanted(first, offset, length);
            long locked = HistoricBug.Is(Bug.D1LockDroppedAroundData) ? HistoricBug.Elsewhere() : first.Index;
            RangeLock.Entry guestLock = await _writer.GuestClusters.LockAsync(locked, wanted);
            Qcow2Allocation? allocation = null;
            try
            {
                allocation = await AllocateAsync(first, wanted, guestLock);
            }
            finally
            {
                if (allocation is null)
                {
                    _writer.GuestClusters.Release(guestLock);
                }
            }

            // Null: somebody else allocated the first cluster while we waited for the lock; it may be written in place now.
            if (allocation is not null)
            {
                long inRun = offset - allocation.GuestOffset;
                return new WritePlan(_file, allocation.FileOffset + inRun, Math.Min(length, allocation.GuestLength - inRun), allocation);
            }
        }
    }

    private long ClustersWanted(GuestCluster first, long offset, long length)
    {
        long lastByte = offset + Math.Min(length, AllocationBytesMax) - 1;
        long clusters = _geometry.GuestClusterOf(lastByte) - first + 1;
        return Math.Min(clusters, _geometry.L2SliceEntries - _tables.IndexInSlice(first));
    }

    private async ValueTask<Qcow2Allocation?> AllocateAsync(GuestCluster first, long wanted, RangeLock.Entry guestLock)
    {
        using AsyncMutex.Releaser held = await _writer.Mutex.LockAsync();
        await _writer.RelieveAsync();
        await _writer.L2Tables.EnsureWritableAsync(first);
        MetadataSlice slice = await _tables.GetSliceAsync(_tables.L1EntryOf(first), first);
        int index = _tables.IndexInSlice(first);
        L2Entry entry = new(slice.ReadEntry(index));
        if (_lookup.IsInPlace(entry))
        {
            return null;
        }

        // A write that began before the zeros may still be under way to the same place: then the data gets another one (I5).
        if (IsReusable(entry) && _writer.IsHiddenOutOfSight)
        {
            _lookup.CheckedDataOffset(entry.HostOffset, _geometry.OffsetOf(first));
            HostRun reused = new(_geometry.HostClusterOf(entry.HostOffset), ReusableRun(slice, index, wanted));
            return new Qcow2Allocation(_geometry, first, reused, readsAsZero: false, isReuse: true, guestLock);
        }

        (HostRun run, bool fresh) = await _writer.Allocator.AllocateAsync(AllocatableRun(slice, index, wanted));
        return new Qcow2Allocation(_geometry, first, run, fresh, isReuse: false, guestLock);
    }

    private bool IsReusable(L2Entry entry) => (entry.IsCopied && entry.Kind(_geometry.Version) == ClusterKind.ZeroAllocated)
        || (HistoricBug.Is(Bug.D7DataAtOffsetZero) && entry.Kind(_geometry.Version) == ClusterKind.ZeroPlain);

    private long ReusableRun(MetadataSlice slice, int index, long wanted)
    {
        long expected = new L2Entry(slice.ReadEntry(index)).HostOffset;
        int count = 1;
        while (count < wanted)
        {
            L2Entry next = new(slice.ReadEntry(index + count));
            expected += _geometry.ClusterSize;
            if (!IsReusable(next) || next.HostOffset != expected)
            {
                break;
            }

            count++;
        }

        return count;
    }

    private long AllocatableRun(MetadataSlice slice, int index, long wanted)
    {
        int count = 1;
        while (count < wanted && new L2Entry(slice.ReadEntry(index + count)) is var next && !_lookup.IsInPlace(next) && !IsReusable(next))
        {
            count++;
        }

        return count;
    }
}
