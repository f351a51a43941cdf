using System.Numerics;
using BlockMount.Base;
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

    private readonly StorageFile _dataFile;
    private readonly Geometry _geometry;
    private readonly GuestTables _tables;
    private readonly MappingLookup _lookup;
    private readonly MetadataWriter _writer;

    /// <param name="dataFile">Where guest clusters live.</param>
    public WritePreparation(StorageFile dataFile, Geometry geometry, GuestTables tables, MappingLookup lookup, MetadataWriter writer)
    {
        _dataFile = dataFile;
        _geometry = geometry;
        _tables = tables;
        _lookup = lookup;
        _writer = writer;
    }

    /// <summary>Plans the write's first bytes; see <see cref="FormatDriver.PrepareWriteAsync"/>.</summary>
    /// <param name="diskSize">The virtual size in bytes: a data file is not made longer than the disk.</param>
    public async ValueTask<WritePlan> PrepareAsync(long offset, long length, long diskSize)
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
            (Answer answer, Qcow2Allocation? allocation) = (Answer.MustWait, null);
            try
            {
                (answer, allocation) = await AllocateAsync(offset, length, wanted, diskSize, guestLock);
            }
            finally
            {
                if (allocation is null)
                {
                    _writer.GuestClusters.Release(guestLock);
                }
            }

            if (allocation is not null)
            {
                long inRun = offset - allocation.GuestOffset;
                return new WritePlan(_dataFile, allocation.FileOffset + inRun, Math.Min(length, allocation.GuestLength - inRun), allocation);
            }

            if (answer == Answer.MustWait)
            {
                return default;
            }
        }
    }

    private long ClustersWanted(GuestCluster first, long offset, long length)
    {
        long lastByte = offset + Math.Min(length, AllocationBytesMax) - 1;
        long clusters = _geometry.GuestClusterOf(lastByte) - first + 1;
        return Math.Min(clusters, _geometry.L2SliceEntries - _tables.IndexInSlice(first));
    }

    private async ValueTask<(Answer Answer, Qcow2Allocation? Allocation)> AllocateAsync(
        long offset, long length, long wanted, long diskSize, RangeLock.Entry guestLock)
    {
        GuestCluster first = _geometry.GuestClusterOf(offset);
        using AsyncMutex.Releaser held = await _writer.Mutex.LockAsync();
        await _writer.RelieveAsync();
        await _writer.L2Tables.EnsureWritableAsync(first);
        MetadataSlice slice = await _tables.GetSliceAsync(_tables.L1EntryOf(first), first);
        int index = _tables.IndexInSlice(first);
        L2Entry entry = _tables.Read(slice, index);
        // Somebody else allocated it while we waited for the lock: it may be written in place now.
        if (_lookup.IsInPlace(entry, offset))
        {
            return (Answer.Again, null);
        }

        if (CanFill(entry))
        {
            Qcow2Allocation? fill = Fill(slice, index, offset, length, wanted, diskSize, guestLock);
            if (fill is not null)
            {
                return (Answer.Allocated, fill);
            }

            // A whole cluster can go elsewhere. One with other subclusters cannot: they may be written in place just now. In a data file every
            // cluster has one place.
            if (_geometry.HasSubclusters || _geometry.HasDataFile)
            {
                return (Answer.MustWait, null);
            }
        }

        (HostRun run, bool fresh) = await _writer.Allocator.AllocateAsync(AllocatableRun(slice, index, wanted));
        (long start, long end) = CopiedRange(slice, index, run.Count, offset, length);
        return (Answer.Allocated, new Qcow2Allocation(_geometry, run, start, end - start, fresh, isFill: false, guestLock));
    }

    // The guest has the host cluster for itself, and it may hold data: parts that are none can become data there.
    private bool CanFill(L2Entry entry) => _geometry.HasDataFile
        || (entry.IsCopied && _geometry.L2.HasHostCluster(entry))
        || (HistoricBug.Is(Bug.D7DataAtOffsetZero) && _geometry.L2.KindAt(entry, 0) == ClusterKind.ZeroPlain);

    // Where the cluster of an entry that can be filled lies.
    private HostCluster FillPlace(L2Entry entry, GuestCluster cluster) => _geometry.HasDataFile && !_geometry.L2.HasHostCluster(entry)
        ? new HostCluster(cluster.Index)
        : _geometry.HostClusterOf(_lookup.CheckedDataOffset(entry, _geometry.OffsetOf(cluster)));

    // As many subclusters without data as follow each other in the file. Null: a write that began before they became zeros may still be under way
    // to the same place (I5).
    private Qcow2Allocation? Fill(
        MetadataSlice slice, int index, long offset, long length, long wanted, long diskSize, RangeLock.Entry guestLock)
    {
        GuestCluster first = _geometry.GuestClusterOf(offset);
        L2Entry entry = _tables.Read(slice, index);
        HostCluster host = FillPlace(entry, first);
        long start = Alignment.Down(offset, _geometry.SubclusterSize);
        int run = _geometry.SubclusterOf(offset) + EmptyRun(entry, _geometry.SubclusterOf(offset));
        long end = start - _geometry.OffsetInCluster(start) + ((long)run << _geometry.SubclusterBits);
        int count = 1;
        while (run == _geometry.L2.Subclusters && count < wanted)
        {
            entry = _tables.Read(slice, index + count);
            run = CanFill(entry) && GoesOn(entry, first + count, host + count) ? EmptyRun(entry, 0) : 0;
            if (run == 0)
            {
                break;
            }

            end += (long)run << _geometry.SubclusterBits;
            count++;
        }

        end = Math.Min(end, Alignment.Up(offset + length, _geometry.SubclusterSize));
        end = _geometry.HasDataFile ? Math.Min(end, diskSize) : end;
        long clusters = _geometry.GuestClusterOf(end - 1) - first + 1;
        if (!_geometry.HasDataFile && !HistoricBug.Is(Bug.D7DataAtOffsetZero))
        {
            _writer.Checks.CheckData(new HostRun(host, clusters), offset);
        }

        return _writer.Hidden.AreOutOfSight(first, clusters)
            ? new Qcow2Allocation(_geometry, new HostRun(host, clusters), start, end - start, readsAsZero: false, isFill: true, guestLock)
            : null;
    }

    // What is damaged is met, and told, when it is the first one.
    private bool GoesOn(L2Entry entry, GuestCluster cluster, HostCluster expected) =>
        _geometry.L2.KindAt(entry, 0) is not (ClusterKind.Invalid or ClusterKind.Compressed)
        && (_geometry.HasDataFile && !_geometry.L2.HasHostCluster(entry)
            ? cluster.Index == expected.Index
            : entry.HostOffset == _geometry.OffsetOf(expected));

    // How many subclusters without data follow from one on.
    private int EmptyRun(L2Entry entry, int subcluster) => Math.Min(
        BitOperations.TrailingZeroCount(_geometry.L2.DataMask(entry) >> subcluster), _geometry.L2.Subclusters - subcluster);

    private long AllocatableRun(MetadataSlice slice, int index, long wanted)
    {
        int count = 1;
        while (count < wanted && !CanFill(_tables.Read(slice, index + count)))
        {
            count++;
        }

        return count;
    }

    // What is written or copied into new clusters, as one range: the write, and what the first and the last old cluster hold beside it.
    private (long Start, long End) CopiedRange(MetadataSlice slice, int index, long count, long offset, long length)
    {
        long firstCluster = offset - _geometry.OffsetInCluster(offset);
        long lastCluster = firstCluster + ((count - 1) << _geometry.ClusterBits);
        uint head = _geometry.L2.DataMask(_tables.Read(slice, index));
        uint tail = _geometry.L2.DataMask(_tables.Read(slice, index + (int)count - 1));
        int headFirst = Math.Min(_geometry.SubclusterOf(offset), BitOperations.TrailingZeroCount(head));
        long start = firstCluster + ((long)headFirst << _geometry.SubclusterBits);
        long writtenEnd = Alignment.Up(offset + length, _geometry.SubclusterSize);
        long tailEnd = lastCluster + ((long)(32 - BitOperations.LeadingZeroCount(tail)) << _geometry.SubclusterBits);
        return (start, Math.Min(Math.Max(writtenEnd, tailEnd), lastCluster + _geometry.ClusterSize));
    }

    private enum Answer
    {
        Allocated,

        /// <summary>Look again: the first cluster was allocated meanwhile.</summary>
        Again,

        /// <summary>See <see cref="WritePlan.MustWait"/>.</summary>
        MustWait,
    }
}
