using System.Buffers.Binary;
using BlockMount.Storage;

namespace BlockMount.Formats.Qcow2.Check;

/// <summary>
/// Visits everything in an image that refers to host clusters, and checks each entry on the way (qcow2 specification, "Cluster mapping",
/// "Snapshots"). Single-threaded; memory does not depend on the size of the image.
/// </summary>
internal sealed class ReferenceWalk
{
    private const ulong OffsetMask = 0x00fffffffffffe00;
    private const ulong Copied = 1UL << 63;
    private const ulong Compressed = 1UL << 62;
    private const ulong L1Reserved = 0x7f000000000001ff;
    private const ulong L2Reserved = 0x3f000000000001fe;
    private const ulong ReadsAsZero = 1;
    private const int SnapshotEntryMinimum = 40;

    private readonly StorageFile _file;
    private readonly CheckedLayout _layout;
    private readonly ClusterReferences _references;
    private readonly StoredRefcounts _refcounts;
    private readonly CheckReport _report;
    private readonly TableReader _l1;
    private readonly TableReader _l2;

    internal ReferenceWalk(StorageFile file, CheckedLayout layout, ClusterReferences references, StoredRefcounts refcounts, CheckReport report)
    {
        _file = file;
        _layout = layout;
        _references = references;
        _refcounts = refcounts;
        _report = report;
        _l1 = new TableReader(file, layout.L1Entries * 8L);
        _l2 = new TableReader(file, layout.ClusterSize);
    }

    /// <summary>Counts every reference into the current window.</summary>
    internal async ValueTask RunAsync()
    {
        _references.Add(0, _layout.ClusterSize, ClusterUse.Structure, active: true, referrer: 0);
        _references.Add(_layout.EncryptionOffset, _layout.EncryptionLength, ClusterUse.Structure, active: true, referrer: 0);
        await VisitRefcountTableAsync();
        await VisitL1Async(_layout.L1Offset, _layout.L1Entries, active: true, referrer: 40);
        await VisitSnapshotsAsync();
        await new BitmapWalk(_file, _layout, _references).RunAsync();
    }

    private async ValueTask VisitRefcountTableAsync()
    {
        long bytes = _layout.RefcountTableClusters << _layout.ClusterBits;
        if (!VisitTable(_layout.RefcountTableOffset, bytes, referrer: 48))
        {
            return;
        }

        for (long block = 0; block < _refcounts.TableEntries; block++)
        {
            ulong entry = await _refcounts.BlockEntryAsync(block);
            if (entry == 0)
            {
                continue;
            }

            long place = _layout.RefcountTableOffset + (block * 8);
            long offset = (long)(entry & StoredRefcounts.OffsetMask);
            if ((entry & ~StoredRefcounts.OffsetMask) != 0)
            {
                Report(CheckFindingKind.ReservedBits, place, $"refcount table entry {block} is {entry:x}");
            }

            if (IsAligned(offset, place, "refcount block"))
            {
                _references.Add(offset, _layout.ClusterSize, ClusterUse.Structure, active: true, place);
            }
        }
    }

    private async ValueTask VisitL1Async(long tableOffset, int entries, bool active, long referrer)
    {
        if (entries == 0 || !VisitTable(tableOffset, entries * 8L, referrer))
        {
            return;
        }

        for (int i = 0; i < entries; i++)
        {
            _l1.Select(tableOffset, entries * 8L);
            ulong entry = await _l1.ReadAsync(i);
            long offset = (long)(entry & OffsetMask);
            long place = tableOffset + (i * 8L);
            if ((entry & L1Reserved) != 0)
            {
                Report(CheckFindingKind.ReservedBits, place, $"L1 entry {i} is {entry:x}");
            }

            if (offset == 0 || !IsAligned(offset, place, "L2 table"))
            {
                continue;
            }

            _references.Add(offset, _layout.ClusterSize, ClusterUse.L2Table, active, place);
            if (active)
            {
                await CheckCopiedAsync(offset, (entry & Copied) != 0, place);
            }

            if (offset < _layout.FileLength)
            {
                await VisitL2Async(offset, active);
            }
        }
    }

    private async ValueTask VisitL2Async(long tableOffset, bool active)
    {
        int words = _layout.L2EntrySize / 8;
        _l2.Select(tableOffset, _layout.ClusterSize);
        for (int i = 0; i < _layout.L2Entries; i++)
        {
            ulong entry = await _l2.ReadAsync(i * words);
            ulong subclusters = words == 1 ? 0 : await _l2.ReadAsync((i * words) + 1);
            if (entry == 0 && subclusters == 0)
            {
                continue;
            }

            long place = tableOffset + (i * (long)_layout.L2EntrySize);
            if ((entry & Compressed) != 0)
            {
                VisitCompressed(entry, active, place);
            }
            else
            {
                await VisitStandardAsync(entry, subclusters, active, place);
            }
        }
    }

    private async ValueTask VisitStandardAsync(ulong entry, ulong subclusters, bool active, long place)
    {
        long offset = (long)(entry & OffsetMask);
        bool zeroBitIsReserved = _layout.Version == 2 || _layout.L2EntrySize == 16;
        bool doubleUse = (uint)(subclusters & (subclusters >> 32)) != 0;
        bool holdsNothing = offset == 0 && !_layout.HasDataFile && (uint)subclusters != 0;
        if ((entry & L2Reserved) != 0 || (zeroBitIsReserved && (entry & ReadsAsZero) != 0) || doubleUse || holdsNothing)
        {
            Report(CheckFindingKind.ReservedBits, place, $"the L2 entry at {place} is {entry:x} {subclusters:x}");
        }

        if (offset == 0)
        {
            return;
        }

        CountAllocated(active);
        if (!IsAligned(offset, place, "data cluster") || _layout.HasDataFile)
        {
            return;
        }

        _references.Add(offset, _layout.ClusterSize, ClusterUse.Data, active, place);
        if (active)
        {
            await CheckCopiedAsync(offset, (entry & Copied) != 0, place);
        }
    }

    private void VisitCompressed(ulong entry, bool active, long place)
    {
        int offsetBits = 62 - (_layout.ClusterBits - 8);
        long offset = (long)(entry & ((1UL << offsetBits) - 1));
        long sectors = (long)((entry & (Compressed - 1)) >> offsetBits) + 1;
        if ((entry & Copied) != 0)
        {
            Report(CheckFindingKind.CopiedFlag, place, $"the L2 entry at {place} is {entry:x}: a compressed cluster is never COPIED");
        }

        if (_layout.HasDataFile)
        {
            Report(CheckFindingKind.ReservedBits, place, $"the L2 entry at {place} is {entry:x}: compressed, in an image with a data file");
            return;
        }

        CountAllocated(active);
        if (active && _references.IsFirstWindow)
        {
            _report.CompressedClusters++;
        }

        // The stream begins inside its first sector and ends at a sector's end at the latest.
        long start = offset & ~511L;
        _references.Add(start, sectors * 512, ClusterUse.Compressed, active, place);
    }

    private async ValueTask VisitSnapshotsAsync()
    {
        long offset = _layout.SnapshotsOffset;
        byte[] entry = new byte[SnapshotEntryMinimum];
        for (int i = 0; i < _layout.SnapshotCount; i++)
        {
            offset = (offset + 7) & ~7L;
            if (offset > _layout.FileLength - SnapshotEntryMinimum)
            {
                Report(CheckFindingKind.Unreadable, offset, $"snapshot {i} at {offset} lies past the end of the file");
                break;
            }

            await _file.ReadAsync(offset, entry);
            long tableOffset = (long)(BinaryPrimitives.ReadUInt64BigEndian(entry) & long.MaxValue);
            uint entries = BinaryPrimitives.ReadUInt32BigEndian(entry.AsSpan(8));
            int names = BinaryPrimitives.ReadUInt16BigEndian(entry.AsSpan(12)) + BinaryPrimitives.ReadUInt16BigEndian(entry.AsSpan(14));
            uint extra = BinaryPrimitives.ReadUInt32BigEndian(entry.AsSpan(36));
            if (entries > (32 << 20) / 8)
            {
                Report(CheckFindingKind.Unreadable, offset, $"snapshot {i} has an L1 table of {entries} entries");
            }
            else
            {
                await VisitL1Async(tableOffset, (int)entries, active: false, offset);
            }

            offset += SnapshotEntryMinimum + names + extra;
        }

        _references.Add(_layout.SnapshotsOffset, offset - _layout.SnapshotsOffset, ClusterUse.Structure, active: true, referrer: 64);
    }

    private bool VisitTable(long offset, long bytes, long referrer)
    {
        if (!IsAligned(offset, referrer, "table"))
        {
            return false;
        }

        _references.Add(offset, bytes, ClusterUse.Structure, active: true, referrer);
        return offset + bytes - _layout.FileLength < _layout.ClusterSize;
    }

    private async ValueTask CheckCopiedAsync(long offset, bool copied, long place)
    {
        if (!_references.IsFirstWindow)
        {
            return;
        }

        ulong refcount = await _refcounts.ReadAsync(offset >> _layout.ClusterBits);
        if (refcount == 1 != copied)
        {
            Report(CheckFindingKind.CopiedFlag, place, $"COPIED is {(copied ? 1 : 0)} in the entry at {place}, and the refcount of the cluster at {offset} is {refcount}");
        }
    }

    private bool IsAligned(long offset, long place, string what)
    {
        bool aligned = (offset & (_layout.ClusterSize - 1)) == 0;
        if (!aligned)
        {
            Report(CheckFindingKind.Misaligned, place, $"the entry at {place} refers to a {what} at {offset}, which is no multiple of {_layout.ClusterSize}");
        }

        return aligned;
    }

    private void CountAllocated(bool active)
    {
        if (active && _references.IsFirstWindow)
        {
            _report.AllocatedClusters++;
        }
    }

    private void Report(CheckFindingKind kind, long hostOffset, string description) => _references.Report(kind, hostOffset, description);
}
