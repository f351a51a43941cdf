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
    private readonly StorageFile _dataFile;
    private readonly Geometry _geometry;
    private readonly GuestTables _tables;
    private readonly OverlapChecks _checks;

    /// <param name="file">The image.</param>
    /// <param name="dataFile">Where guest clusters live: the image itself, unless it has a data file.</param>
    public MappingLookup(StorageFile file, StorageFile dataFile, Geometry geometry, GuestTables tables, OverlapChecks checks)
    {
        _file = file;
        _dataFile = dataFile;
        _geometry = geometry;
        _tables = tables;
        _checks = checks;
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

        mapping = Decode(slice, index, _tables.Read(slice, index), offset, length);
        return true;
    }

    /// <summary>
    /// As <see cref="TryMap"/>, for somebody who only looks ahead: damage counts as not cached, and is reported to whoever needs the place. On false the
    /// mapping's length tells for how many bytes nothing can be said.
    /// </summary>
    public bool TryMapCached(long offset, long length, out Mapping mapping)
    {
        GuestCluster cluster = _geometry.GuestClusterOf(offset);
        L1Entry l1 = _tables.L1EntryOf(cluster);
        if (!l1.IsPresent)
        {
            return TryMap(offset, length, out mapping);
        }

        long unknown = (long)_geometry.L2SliceEntries << _geometry.ClusterBits;
        if (_geometry.OffsetInCluster(l1.TableOffset) == 0 && _tables.TryGetSlice(l1, cluster, out MetadataSlice slice, out int index))
        {
            L2Entry entry = _tables.Read(slice, index);
            if (IsSound(entry, offset))
            {
                mapping = Decode(slice, index, entry, offset, length);
                return true;
            }

            unknown = _geometry.ClusterSize;
        }

        mapping = new Mapping(MappingKind.Backing, Math.Min(length, unknown - (offset & (unknown - 1))));
        return false;
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
    /// Plans a write in place if the slice is cached and the first subcluster is data of the guest's alone. False: not cached, or something
    /// must be allocated.
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

        L2Entry entry = _tables.Read(slice, index);
        if (!IsInPlace(entry, offset))
        {
            return false;
        }

        long start = CheckedDataOffset(entry, offset) + _geometry.OffsetInCluster(offset);
        long covered = RunLength(slice, index, entry, ClusterKind.Normal, offset, length, mustBeOwn: true);
        if (!_geometry.HasDataFile)
        {
            covered = _checks.DataLength(start, covered);
            if (covered <= 0)
            {
                _checks.CheckData(new HostRun(_geometry.HostClusterOf(start), 1), offset);
            }
        }

        plan = new WritePlan(_dataFile, start, covered, Allocation: null);
        return true;
    }

    /// <summary>The subcluster at <paramref name="guestOffset"/> is data that may be overwritten. Nothing shares a data file's clusters.</summary>
    public bool IsInPlace(L2Entry entry, long guestOffset) =>
        KindAt(entry, guestOffset) == ClusterKind.Normal && (entry.IsCopied || _geometry.HasDataFile);

    /// <summary>What <paramref name="entry"/> says of the subcluster at <paramref name="guestOffset"/>.</summary>
    /// <exception cref="BlockIOException">EIO: the entry contradicts itself, or is of a kind that this image cannot have.</exception>
    public ClusterKind KindAt(L2Entry entry, long guestOffset)
    {
        ClusterKind kind = _geometry.L2.KindAt(entry, _geometry.SubclusterOf(guestOffset));
        return !IsPossible(kind)
            ? throw DamagedEntry(entry, guestOffset, kind == ClusterKind.Invalid ? "contradicts itself" : "is compressed, but the image has a data file")
            : kind;
    }

    /// <summary>
    /// The host offset of an entry's cluster, checked before anything is read from or written to it: aligned, and not the header's cluster; in a
    /// data file the guest offset.
    /// </summary>
    public long CheckedDataOffset(L2Entry entry, long guestOffset)
    {
        return IsPossible(entry.HostOffset, guestOffset)
            ? entry.HostOffset
            : throw DamagedEntry(entry, guestOffset, "names a place where no guest data can be");
    }

    private bool IsSound(L2Entry entry, long guestOffset)
    {
        ClusterKind kind = _geometry.L2.KindAt(entry, _geometry.SubclusterOf(guestOffset));
        return IsPossible(kind) && (kind != ClusterKind.Normal || IsPossible(entry.HostOffset, guestOffset));
    }

    private bool IsPossible(ClusterKind kind) => kind != ClusterKind.Invalid && !(kind == ClusterKind.Compressed && _geometry.HasDataFile);

    private bool IsPossible(long hostOffset, long guestOffset) => _geometry.HasDataFile
        ? hostOffset == guestOffset - _geometry.OffsetInCluster(guestOffset)
        : _geometry.OffsetInCluster(hostOffset) == 0 && (hostOffset >= _geometry.ClusterSize || HistoricBug.Is(Bug.D7DataAtOffsetZero));

    private BlockIOException DamagedEntry(L2Entry entry, long guestOffset, string what) =>
        _checks.Health.Damaged($"an L2 entry ({entry.Raw:x16} {entry.Bitmap:x16}) {what}", entry.HostOffset, guestOffset);

    private Mapping Decode(MetadataSlice slice, int index, L2Entry entry, long offset, long length)
    {
        ClusterKind kind = KindAt(entry, offset);
        if (kind == ClusterKind.Compressed)
        {
            (long hostOffset, int compressedLength) = entry.CompressedExtent(_geometry.ClusterBits);
            long rest = Math.Min(length, _geometry.ClusterSize - _geometry.OffsetInCluster(offset));
            return new Mapping(MappingKind.Compressed, rest, _file, hostOffset, compressedLength);
        }

        long covered = RunLength(slice, index, entry, kind, offset, length, mustBeOwn: false);
        return kind switch
        {
            ClusterKind.Normal => new Mapping(
                MappingKind.Data, covered, _dataFile, CheckedDataOffset(entry, offset) + _geometry.OffsetInCluster(offset)),
            ClusterKind.Unallocated => new Mapping(MappingKind.Backing, covered),
            ClusterKind.ZeroPlain => new Mapping(MappingKind.Zero, covered),
            _ => new Mapping(MappingKind.Zero, covered, _dataFile, entry.HostOffset + _geometry.OffsetInCluster(offset)),
        };
    }

    // How far the kind goes on from the entry at index; for data without a gap in the file.
    private long RunLength(MetadataSlice slice, int index, L2Entry entry, ClusterKind kind, long offset, long length, bool mustBeOwn)
    {
        L2Format format = _geometry.L2;
        int run = _geometry.SubclusterOf(offset);
        run += format.RunLength(entry, run, kind);
        long covered = ((long)run << _geometry.SubclusterBits) - _geometry.OffsetInCluster(offset);
        long expected = entry.HostOffset;
        while (run == format.Subclusters && covered < length && ++index < _geometry.L2SliceEntries)
        {
            entry = _tables.Read(slice, index);
            expected += _geometry.ClusterSize;
            if (format.KindAt(entry, 0) != kind
                || (kind == ClusterKind.Normal && (entry.HostOffset != expected || (mustBeOwn && !entry.IsCopied && !_geometry.HasDataFile))))
            {
                break;
            }

            run = format.RunLength(entry, 0, kind);
            covered += (long)run << _geometry.SubclusterBits;
        }

        return Math.Min(covered, length);
    }
}
