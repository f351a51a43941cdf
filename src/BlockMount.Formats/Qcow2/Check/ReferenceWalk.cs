using BlockMount.Storage;

namespace BlockMount.Formats.Qcow2.Check;

/// <summary>
/// Visits everything in an image that refers to host clusters: header, tables of all disk states, snapshot table, refcount structure, encryption
/// header, bitmaps. Single-threaded; memory does not depend on the size of the image.
/// </summary>
internal sealed class ReferenceWalk
{
    private const long L1TableField = 40;
    private const long RefcountTableField = 48;
    private const long SnapshotsField = 64;

    private readonly StorageFile _file;
    private readonly HoleMap _holes;
    private readonly CheckedLayout _layout;
    private readonly SnapshotList _snapshots;
    private readonly ClusterReferences _references;
    private readonly StoredRefcounts _stored;
    private readonly CheckReport _report;
    private readonly GuestTableWalk _tables;
    private readonly List<GuestTableRoot> _roots = [];
    private readonly List<GuestTableRoot> _unread = [];

    internal ReferenceWalk(
        StorageFile file, CheckedLayout layout, HoleMap holes, SnapshotList snapshots, ClusterReferences references, StoredRefcounts stored, CheckReport report)
    {
        _file = file;
        _holes = holes;
        _layout = layout;
        _snapshots = snapshots;
        _references = references;
        _stored = stored;
        _report = report;
        _roots.Add(new GuestTableRoot(null, layout.L1Offset, layout.L1Entries, layout.VirtualSize, L1TableField));
        foreach (CheckedSnapshot snapshot in snapshots.Snapshots)
        {
            if (snapshot.HasUsableL1(layout))
            {
                _roots.Add(new GuestTableRoot(snapshot.Name, snapshot.L1Offset, (int)snapshot.L1Entries, snapshot.DiskSize, snapshot.Place));
            }
        }

        SetUnreadableApart();
        _tables = new GuestTableWalk(file, layout, holes, references, stored, report, _roots);
    }

    /// <summary>The L1 tables that are walked, the active one first.</summary>
    internal IReadOnlyList<GuestTableRoot> Roots => _roots;

    /// <summary>The bitmaps as the last run found them; null if the image has no extension for them.</summary>
    internal BitmapWalk? Bitmaps { get; private set; }

    /// <summary>Counts every reference into the current window.</summary>
    /// <param name="progress">Called with the number of L1 entries done.</param>
    /// <param name="countRefcountStructure">False leaves out the references to the refcount table and its blocks.</param>
    internal async ValueTask RunAsync(Action<long>? progress = null, bool countRefcountStructure = true)
    {
        _ = _references.Add(0, _layout.ClusterSize, ClusterUses.Structure, active: true, referrer: 0);
        ReportUnusableSnapshots();
        ReportUnreadTables();
        long before = 0;
        foreach (GuestTableRoot root in _roots)
        {
            long start = before;
            await _tables.CountAsync(root, progress is null ? null : i => progress(start + i));
            before += root.Entries;
        }

        await _tables.CountRepeatsAsync();

        _ = _references.Add(_layout.SnapshotsOffset, _snapshots.TableBytes, ClusterUses.Structure, active: true, SnapshotsField);
        if (countRefcountStructure)
        {
            _ = _references.Add(_layout.RefcountTableOffset, _layout.RefcountTableBytes, ClusterUses.Refcounts, active: true, RefcountTableField);
        }

        CountEncryptionHeader();
        if (_layout.BitmapExtensionPlace != 0)
        {
            Bitmaps = new BitmapWalk(_file, _layout, _holes, _references);
            await Bitmaps.RunAsync();
        }

        if (countRefcountStructure)
        {
            await VisitRefcountBlocksAsync();
        }
    }

    /// <summary>Adds the guest ranges that are hit by clusters with owners that exclude each other.</summary>
    internal async ValueTask MarkConflictsAsync()
    {
        foreach (GuestTableRoot root in _roots)
        {
            await _tables.MarkAsync(root);
        }

        _tables.EndMarking();
    }

    private void SetUnreadableApart()
    {
        if (_roots.Count == 1)
        {
            return;
        }

        IReadOnlySet<(long, long)> unreadable = TableOverlaps.FindUnreadable(
            [.. _roots.Select(root => (root.Offset, root.Bytes))], _file.AllocatedBytes, exempt: (_roots[0].Offset, _roots[0].Bytes));
        if (unreadable.Count > 0)
        {
            _unread.AddRange(_roots.Where(root => unreadable.Contains((root.Offset, root.Bytes))));
            _ = _roots.RemoveAll(root => unreadable.Contains((root.Offset, root.Bytes)));
        }
    }

    private void ReportUnreadTables()
    {
        if (!_references.IsFirstWindow)
        {
            return;
        }

        _report.UnreadTables += _unread.Count;
        foreach (GuestTableRoot root in _unread)
        {
            _report.Add(
                CheckFindingKind.Unchecked, root.Referrer, $"snapshot '{root.Snapshot}' has an L1 table of {root.Entries} entries at {root.Offset}, over too many others or in too large a hole; it was not read");
            _report.Damage.Add(root.Snapshot, 0, root.DiskSize);
        }
    }

    private void CountEncryptionHeader()
    {
        if (_layout.EncryptionLength <= CheckedLayout.EncryptionBytesMax)
        {
            _ = _references.Add(_layout.EncryptionOffset, _layout.EncryptionLength, ClusterUses.Structure, active: true, referrer: 0);
        }
        else if (_references.IsFirstWindow)
        {
            _report.UnreadTables++;
            _report.Add(
                CheckFindingKind.Unchecked, 0, $"the encryption header at {_layout.EncryptionOffset} is said to have {_layout.EncryptionLength} bytes, no more than {CheckedLayout.EncryptionBytesMax} are counted");
        }
    }

    private void ReportUnusableSnapshots()
    {
        if (_layout.HasDataFile && _snapshots.Snapshots.Count > 0)
        {
            _references.Report(CheckFindingKind.Unreadable, _layout.SnapshotsOffset, "an image with a data file has internal snapshots");
        }

        foreach (CheckedSnapshot snapshot in _snapshots.Snapshots)
        {
            if (!snapshot.HasUsableL1(_layout))
            {
                _references.Report(
                    CheckFindingKind.Misaligned, snapshot.Place, $"snapshot '{snapshot.Name}' has an L1 table of {snapshot.L1Entries} entries at {snapshot.L1Offset}");
                if (_references.IsFirstWindow)
                {
                    _report.Damage.Add(snapshot.Name, 0, snapshot.DiskSize);
                }
            }
        }
    }

    // Last, because a block may have no other user, and each is compared with what was counted before it.
    private async ValueTask VisitRefcountBlocksAsync()
    {
        for (long block = await _stored.NextBlockAsync(0); block < _stored.TableEntries; block = await _stored.NextBlockAsync(block + 1))
        {
            VisitRefcountBlock(block, await _stored.TableEntryAsync(block));
        }
    }

    private void VisitRefcountBlock(long block, ulong entry)
    {
        long place = _layout.RefcountTableOffset + (block * 8);
        long offset = (long)(entry & StoredRefcounts.OffsetMask & long.MaxValue);
        long cluster = offset >> _layout.ClusterBits;
        if ((entry & ~StoredRefcounts.OffsetMask) != 0)
        {
            _report.RefcountsNeedRebuild = true;
            _references.Report(CheckFindingKind.ReservedBits, place, $"refcount table entry {block} is {entry:x}");
        }
        else if (!_layout.IsAligned(offset))
        {
            _report.RefcountsNeedRebuild = true;
            _references.Report(CheckFindingKind.Misaligned, place, $"refcount block {block} lies at {offset}, which is no multiple of {_layout.ClusterSize}");
        }
        else if (entry > long.MaxValue || cluster >= _references.FileClusters)
        {
            _report.RefcountsNeedRebuild = true;
            _references.Report(CheckFindingKind.OutsideFile, place, $"refcount block {block} lies at {entry}, past the end of the file at {_layout.FileLength}");
        }
        else
        {
            _ = _references.Add(offset, _layout.ClusterSize, ClusterUses.Refcounts, active: true, place);
            if (_references.Holds(cluster) && _references.Count(cluster) != 1)
            {
                _report.RefcountsNeedRebuild = true;
                _report.Add(CheckFindingKind.Overlap, offset, $"refcount block {block} at {offset} has {_references.Count(cluster)} references");
            }
        }
    }
}
