using BlockMount.Base;
using BlockMount.Formats.Qcow2.Metadata;
using BlockMount.Formats.Qcow2.OnDisk;
using BlockMount.Storage;

namespace BlockMount.Formats.Qcow2.Translation;

/// <summary>
/// From guest ranges to mappings and in-place plans. Hot: no lock, no allocation, no wait when the slice is cached. Answers end at
/// the end of a slice at the latest.
/// </summary>
public sealed class MappingLookup
{
    private readonly StorageFile _file;
    private readonly Geometry _geometry;
    private readonly GuestTables _tables;

    public MappingLookup(StorageFile file, Geometry geometry, GuestTables tables)
    {
        _file = file;
        _geometry = geometry;
        _tables = tables;
    }

    /// <summary>Maps the range's first bytes if the slice is cached.</summary>
    public bool TryMap(long offset, long length, out Mapping mapping)
    {
        GuestCluster cluster = _geometry.GuestClusterOf(offset);
        L1Entry l1 = _tables.L1EntryOf(cluster);
        if (!l1.IsPresent)
        {
            long covered = _geometry.L1EntryCoverage - (offset & (_geometry.L1EntryCoverage - 1));
            mapping = new Mapping(MappingKind.Backing, Math.Min(length, covered));
            return true;
        }

        if (!_tables.TryGetSlice(l1, cluster, out MetadataSlice slice, out int index))
        {
            mapping = default;
            return false;
        }

        mapping = Decode(slice, index, offset, length);
        return true;
    }

    /// <summary>Loads the slice for <paramref name="offset"/> if there is one, so that a look-up right afterwards finds it.</summary>
    public async ValueTask LoadAsync(long offset)
    {
        GuestCluster cluster = _geometry.GuestClusterOf(offset);
        L1Entry l1 = _tables.L1EntryOf(cluster);
        if (l1.IsPresent)
        {
            await _tables.GetSliceAsync(l1, cluster);
        }
    }

    /// <summary>
    /// Plans a write in place if the slice is cached and the first cluster is the guest's alone. False: not cached, or clusters must be
    /// allocated.
    /// </summary>
    public bool TryPlanInPlace(long offset, long length, out WritePlan plan)
    {
        plan = default;
        GuestCluster cluster = _geometry.GuestClusterOf(offset);
        L1Entry l1 = _tables.L1EntryOf(cluster);
        if (!l1.IsPresent || !l1.IsCopied || !_tables.TryGetSlice(l1, cluster, out MetadataSlice slice, out int index))
        {
            return false;
        }

        L2Entry entry = new(slice.ReadEntry(index));
        if (!IsInPlace(entry))
        {
            return false;
        }

        long start = CheckedDataOffset(entry.HostOffset, offset);
        long covered = NormalRunLength(slice, index, offset, length, mustBeOwn: true);
        plan = new WritePlan(_file, start + _geometry.OffsetInCluster(offset), covered, Allocation: null);
        return true;
    }

    /// <summary>The entry's cluster holds data and may be overwritten.</summary>
    public bool IsInPlace(L2Entry entry) => entry.IsCopied && entry.Kind(_geometry.Version) == ClusterKind.Normal;

    /// <summary>
    /// Checks an entry's host offset before anything is read from or written to it: aligned, and not the header's cluster.
    /// </summary>
    public long CheckedDataOffset(long hostOffset, long guestOffset)
    {
        if (_geometry.OffsetInCluster(hostOffset) != 0 || (hostOffset < _geometry.ClusterSize && !HistoricBug.Is(Bug.D7DataAtOffsetZero)))
        {
            throw new BlockIOException(
                Errno.EIO,
                $"L2 entry for guest offset {guestOffset:#x} in '{_file.Name}' names host offset {hostOffset:#x}, where no data can be",
                "The image is damaged: run 'qemu-img check' on it");
        }

        return hostOffset;
    }

    private Mapping Decode(MetadataSlice slice, int index, long offset, long length)
    {
        L2Entry entry = new(slice.ReadEntry(index));
        ClusterKind kind = entry.Kind(_geometry.Version);
        switch (kind)
        {
            case ClusterKind.Normal:
                long start = CheckedDataOffset(entry.HostOffset, offset);
                long covered = NormalRunLength(slice, index, offset, length, mustBeOwn: false);
                return new Mapping(MappingKind.Data, covered, _file, start + _geometry.OffsetInCluster(offset));
            case ClusterKind.Compressed:
                (long hostOffset, int compressedLength) = entry.CompressedExtent(_geometry.ClusterBits);
                long rest = Math.Min(length, _geometry.ClusterSize - _geometry.OffsetInCluster(offset));
                return new Mapping(MappingKind.Compressed, rest, _file, hostOffset, compressedLength);
            case ClusterKind.Unallocated:
                return new Mapping(MappingKind.Backing, SameKindLength(slice, index, kind, offset, length));
            case ClusterKind.ZeroPlain:
                return new Mapping(MappingKind.Zero, SameKindLength(slice, index, kind, offset, length));
            default:
                return new Mapping(
                    MappingKind.Zero,
                    SameKindLength(slice, index, kind, offset, length),
                    _file,
                    entry.HostOffset + _geometry.OffsetInCluster(offset));
        }
    }

    // How far data goes on without a gap in the file, starting from the entry at index, which is Normal.
    private long NormalRunLength(MetadataSlice slice, int index, long offset, long length, bool mustBeOwn)
    {
        long covered = _geometry.ClusterSize - _geometry.OffsetInCluster(offset);
        long expected = new L2Entry(slice.ReadEntry(index)).HostOffset;
        while (covered < length && ++index < _geometry.L2SliceEntries)
        {
            L2Entry next = new(slice.ReadEntry(index));
            expected += _geometry.ClusterSize;
            if (next.HostOffset != expected || next.Kind(_geometry.Version) != ClusterKind.Normal || (mustBeOwn && !next.IsCopied))
            {
                break;
            }

            covered += _geometry.ClusterSize;
        }

        return Math.Min(covered, length);
    }

    private long SameKindLength(MetadataSlice slice, int index, ClusterKind kind, long offset, long length)
    {
        long covered = _geometry.ClusterSize - _geometry.OffsetInCluster(offset);
        while (covered < length && ++index < _geometry.L2SliceEntries
            && new L2Entry(slice.ReadEntry(index)).Kind(_geometry.Version) == kind)
        {
            covered += _geometry.ClusterSize;
        }

        return Math.Min(covered, length);
    }
}
