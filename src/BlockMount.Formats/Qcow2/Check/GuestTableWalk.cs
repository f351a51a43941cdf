using System.Diagnostics;
using BlockMount.Formats.Qcow2.OnDisk;
using BlockMount.Storage;

namespace BlockMount.Formats.Qcow2.Check;

/// <summary>An L1 table with what hangs on it.</summary>
/// <param name="Snapshot">The snapshot that it belongs to; null for the active disk.</param>
/// <param name="Offset">Host offset of the table.</param>
/// <param name="Entries">Entries of the table.</param>
/// <param name="DiskSize">Bytes of the guest disk; what the table describes behind it is saved machine state.</param>
/// <param name="Referrer">Host offset of the field that names the table.</param>
internal sealed record GuestTableRoot(string? Snapshot, long Offset, int Entries, long DiskSize, long Referrer)
{
    internal bool IsActive => Snapshot is null;
}

/// <summary>
/// Visits the L1 and L2 tables of one disk state and counts what they refer to, checking each entry on the way (qcow2 specification, "Cluster
/// mapping"). Single-threaded; holds one L2 table.
/// </summary>
internal sealed class GuestTableWalk
{
    private static readonly GuestTableRoot s_unclipped = new(null, 0, 0, long.MaxValue, 0);

    private readonly CheckedLayout _layout;
    private readonly ClusterReferences _references;
    private readonly StoredRefcounts _stored;
    private readonly CheckReport _report;
    private readonly TableReader _l1;
    private readonly CheckedL2Table _l2;
    private readonly VisitedTables _visited = new();

    // The table being visited.
    private GuestTableRoot _root = null!;
    private int _l1Index;
    private long _l2Offset;
    private bool _copiedIsChecked;
    private long _nextContiguous;

    // How often what is visited counts, and whether it was visited before: then its damage is known.
    private long _times = 1;
    private bool _isRepeat;

    // Where damage is noted for repeats; null if this visit is not remembered.
    private VisitedTable? _visit;
    private VisitedTable? _rootVisit;

    // Instead of counting, look for entries whose clusters have owners that exclude each other.
    private bool _marking;

    /// <param name="entriesMax">Entries of the largest L1 table that will be handed in.</param>
    internal GuestTableWalk(StorageFile file, CheckedLayout layout, ClusterReferences references, StoredRefcounts stored, CheckReport report, int entriesMax)
    {
        _layout = layout;
        _references = references;
        _stored = stored;
        _report = report;
        _l1 = new TableReader(file, Math.Max(entriesMax * 8L, 512));
        _l2 = new CheckedL2Table(file, layout);
    }

    /// <summary>Counts every reference of <paramref name="root"/> into the current window.</summary>
    internal ValueTask CountAsync(GuestTableRoot root, Action<int>? progress = null)
    {
        _marking = false;
        return root.Entries == 0 ? ValueTask.CompletedTask : WalkAsync(root, progress);
    }

    /// <summary>Adds the guest ranges of entries whose clusters have owners that exclude each other, once everything is counted and compared.</summary>
    internal ValueTask MarkAsync(GuestTableRoot root)
    {
        _marking = true;
        return root.Entries == 0 ? ValueTask.CompletedTask : WalkAsync(root, progress: null);
    }

    /// <summary>Counts what was met more than once, with its multiplicity; ends a count of all roots.</summary>
    internal async ValueTask CountRepeatsAsync()
    {
        _isRepeat = true;
        foreach (VisitedTable visit in _visited.RepeatedRoots)
        {
            // Multiplies the repeats of its entries, which are counted below.
            _times = visit.Repeats;
            await WalkEntriesAsync(visit.Root, progress: null);
        }

        foreach (VisitedTable visit in _visited.RepeatedTables)
        {
            _root = visit.Root;
            _l1Index = visit.L1Index;
            _l2Offset = visit.Entry.TableOffset;
            _times = visit.Repeats;
            await CountL1EntryAsync(visit.Entry, _root.Offset + (_l1Index * 8L));
        }

        _isRepeat = false;
        _times = 1;
        _visited.Clear();
    }

    /// <summary>Ends the calls of <see cref="MarkAsync"/>.</summary>
    internal void EndMarking() => _visited.Clear();

    private async ValueTask WalkAsync(GuestTableRoot root, Action<int>? progress)
    {
        if (_visited.Find(root) is { } before)
        {
            before.Repeats++;
            before.RepeatDamage(_report.Damage, root, 0, 1, root.Entries * _layout.L1Coverage);
            return;
        }

        VisitedTable visit = new(root);
        _rootVisit = _visited.TryAddRoot(visit) ? visit : null;
        await WalkEntriesAsync(root, progress);
        _rootVisit = null;
    }

    private async ValueTask WalkEntriesAsync(GuestTableRoot root, Action<int>? progress)
    {
        _root = root;
        if (!_marking && !_references.Add(root.Offset, root.Entries * 8L, ClusterUses.Structure, active: true, root.Referrer, _times))
        {
            Damage(0, long.MaxValue);
        }

        int run;
        for (int i = 0; i < root.Entries; i += run)
        {
            _l1.Select(root.Offset, root.Entries * 8L);
            CheckedL1Entry entry = new(await _l1.ReadAsync(i));
            run = await _l1.RunLengthAsync(i);
            if (entry.Raw != 0)
            {
                await VisitAsync(entry, i, run);
            }

            progress?.Invoke(i + run - 1);
        }
    }

    // A run of equal entries. An external data file gives each entry a place of its own, so that no two visits are alike.
    private async ValueTask VisitAsync(CheckedL1Entry entry, int first, int run)
    {
        for (int i = first; i < first + run; i++)
        {
            if (!_layout.HasDataFile && _visited.Find(entry, _root.IsActive) is { } before)
            {
                Repeat(before, i, first + run - i);
                return;
            }

            _l1Index = i;
            _l2Offset = entry.TableOffset;
            VisitedTable visit = new(_root) { Entry = entry, L1Index = i };
            _visit = !_layout.HasDataFile && !_isRepeat && _visited.TryAdd(visit) ? visit : null;
            await (_marking ? MarkL2Async() : CountL1EntryAsync(entry, _root.Offset + (i * 8L)));
            _visit = null;
        }
    }

    private void Repeat(VisitedTable before, int l1Index, int count)
    {
        before.Repeats += _times * count;
        if (_isRepeat || before.Damage is null)
        {
            return;
        }

        long start = l1Index * _layout.L1Coverage;
        before.RepeatDamage(_report.Damage, _root, start, count, _layout.L1Coverage);
        if (_rootVisit is { } rootVisit)
        {
            rootVisit.Damage ??= new GuestDamage();
            before.RepeatDamage(rootVisit.Damage, s_unclipped, start, count, _layout.L1Coverage);
        }
    }

    private async ValueTask CountL1EntryAsync(CheckedL1Entry entry, long place)
    {
        if (entry.HasReservedBits)
        {
            Report(CheckFindingKind.ReservedBits, place, $"L1 entry {_l1Index} is {entry.Raw:x}");
        }

        bool aligned = _layout.IsAligned(entry.TableOffset);
        bool usable = _references.Add(entry.TableOffset, _layout.ClusterSize, aligned ? ClusterUses.L2Table : ClusterUses.None, _root.IsActive, place, _times);
        if (!aligned)
        {
            Report(CheckFindingKind.Misaligned, place, $"the entry at {place} refers to an L2 table at {entry.TableOffset}, which is no multiple of {_layout.ClusterSize}");
            usable = false;
        }

        if (!usable || entry.TableOffset == 0)
        {
            Damage(_l1Index * _layout.L1Coverage, _layout.L1Coverage);
        }

        _copiedIsChecked = _root.IsActive && entry.TableOffset != 0 && await CheckCopiedAsync(entry, place);
        await CountL2Async();
    }

    // False if nobody knows the table's refcount; its entries are not compared then.
    private async ValueTask<bool> CheckCopiedAsync(CheckedL1Entry entry, long place)
    {
        if (!_references.IsFirstWindow)
        {
            return false;
        }

        long cluster = entry.TableOffset >> _layout.ClusterBits;
        await _stored.LoadAsync(cluster / _layout.RefcountBlockEntries);
        bool held = _stored.TryGet(cluster, out ulong refcount, out BlockState state);
        Debug.Assert(held);
        if (state == BlockState.Misaligned)
        {
            return false;
        }

        if (refcount == 1 != entry.IsCopied)
        {
            ReportCopied(entry.IsCopied, place, entry.TableOffset, refcount);
        }

        return true;
    }

    private async ValueTask CountL2Async()
    {
        await _l2.LoadAsync(_l2Offset);
        _nextContiguous = 0;
        int index = 0;
        while (true)
        {
            long missingBlock = CountEntries(ref index);
            if (missingBlock < 0)
            {
                return;
            }

            await _stored.LoadAsync(missingBlock);
        }
    }

    // Goes on at index, to the end of the table or to the first entry that needs a refcount block; that block, or -1 at the end.
    private long CountEntries(ref int index)
    {
        for (index = _l2.NextUsed(index); index < _layout.L2Entries; index = _l2.NextUsed(index + 1))
        {
            CheckedL2Entry entry = _l2[index];
            ClusterKind kind = entry.Kind(_layout);
            ulong refcount = 1;
            bool compare = _copiedIsChecked && (kind is ClusterKind.Normal or ClusterKind.ZeroAllocated);
            if (compare && !_layout.HasDataFile)
            {
                long cluster = entry.HostOffset >> _layout.ClusterBits;
                if (!_stored.TryGet(cluster, out refcount, out BlockState state))
                {
                    return cluster / _layout.RefcountBlockEntries;
                }

                compare = state != BlockState.Misaligned;
            }

            CountEntry(entry, kind, index);
            if (compare && refcount == 1 != entry.IsCopied)
            {
                ReportCopied(entry.IsCopied, _l2.PlaceOf(index), entry.HostOffset, refcount);
            }
        }

        return -1;
    }

    private void CountEntry(CheckedL2Entry entry, ClusterKind kind, int index)
    {
        if (kind == ClusterKind.Compressed)
        {
            CountCompressed(entry, index);
            return;
        }

        if (entry.HasReservedBits)
        {
            Report(CheckFindingKind.ReservedBits, _l2.PlaceOf(index), $"the L2 entry at {_l2.PlaceOf(index)} is {entry.Word:x}");
        }

        if (entry.HasReservedZeroBit(_layout))
        {
            Report(CheckFindingKind.ReservedBits, _l2.PlaceOf(index), $"the L2 entry at {_l2.PlaceOf(index)} is {entry.Word:x}: bit 0 has no meaning here", knownToQemu: false);
        }

        if (kind is ClusterKind.Normal or ClusterKind.ZeroAllocated)
        {
            CountAllocated(entry, index);
        }
        else if (kind == ClusterKind.Unallocated && entry.AllocatedSubclusters != 0)
        {
            Report(CheckFindingKind.ReservedBits, _l2.PlaceOf(index), $"the L2 entry at {_l2.PlaceOf(index)} has no cluster and allocated subclusters {entry.AllocatedSubclusters:x}");
            DamageAt(index);
        }
    }

    private void CountAllocated(CheckedL2Entry entry, int index)
    {
        if (entry.ContradictorySubclusters != 0)
        {
            Report(CheckFindingKind.ReservedBits, _l2.PlaceOf(index), $"the L2 entry at {_l2.PlaceOf(index)} has subclusters {entry.ContradictorySubclusters:x} that are both allocated and zero");
            DamageAt(index);
        }

        bool aligned = _layout.IsAligned(entry.HostOffset);
        if (!aligned)
        {
            Report(CheckFindingKind.Misaligned, _l2.PlaceOf(index), $"the entry at {_l2.PlaceOf(index)} refers to a data cluster at {entry.HostOffset}, which is no multiple of {_layout.ClusterSize}");
            DamageAt(index);
        }

        if (_root.IsActive && _references.IsFirstWindow)
        {
            _report.AllocatedClusters += _times;
            _report.FragmentedClusters += _nextContiguous != 0 && entry.HostOffset != _nextContiguous ? _times : 0;
            _nextContiguous = entry.HostOffset + _layout.ClusterSize;
        }

        if (_layout.HasDataFile)
        {
            CheckIdentity(entry, index);
        }
        else if (!_references.Add(entry.HostOffset, _layout.ClusterSize, aligned ? ClusterUses.Data : ClusterUses.None, _root.IsActive, _l2.PlaceOf(index), _times))
        {
            DamageAt(index);
        }
    }

    private void CheckIdentity(CheckedL2Entry entry, int index)
    {
        long guest = GuestOffset(index);
        if (_layout.IsAligned(entry.HostOffset) && entry.HostOffset != guest)
        {
            Report(
                CheckFindingKind.Misaligned, _l2.PlaceOf(index), $"the entry at {_l2.PlaceOf(index)} refers to {entry.HostOffset} of the data file, the guest offset is {guest}", knownToQemu: false);
            DamageAt(index);
        }
    }

    private void CountCompressed(CheckedL2Entry entry, int index)
    {
        long place = _l2.PlaceOf(index);
        if (entry.IsCopied)
        {
            Report(CheckFindingKind.CopiedFlag, place, $"the L2 entry at {place} is {entry.Word:x}: a compressed cluster is never COPIED");
        }

        if (_layout.HasDataFile || entry.Bitmap != 0)
        {
            Report(CheckFindingKind.ReservedBits, place, $"the L2 entry at {place} is {entry.Word:x} {entry.Bitmap:x}: compressed, {(_layout.HasDataFile ? "in an image with a data file" : "with subclusters")}");
            DamageAt(index);
            return;
        }

        if (_root.IsActive && _references.IsFirstWindow)
        {
            _report.AllocatedClusters += _times;
            _report.CompressedClusters += _times;
            _report.FragmentedClusters += _times;
        }

        (long offset, long length) = entry.CompressedSectors(_layout);
        if (!_references.Add(offset, length, ClusterUses.Compressed, _root.IsActive, place, _times))
        {
            DamageAt(index);
        }
    }

    private async ValueTask MarkL2Async()
    {
        long cluster = _l2Offset >> _layout.ClusterBits;
        if (_references.Holds(cluster) && ClusterReferences.IsContested(_references.Uses(cluster)))
        {
            Damage(_l1Index * _layout.L1Coverage, _layout.L1Coverage);
        }

        if (_layout.HasDataFile)
        {
            return;
        }

        await _l2.LoadAsync(_l2Offset);
        for (int index = _l2.NextUsed(0); index < _layout.L2Entries; index = _l2.NextUsed(index + 1))
        {
            MarkEntry(_l2[index], index);
        }
    }

    private void MarkEntry(CheckedL2Entry entry, int index)
    {
        ClusterKind kind = entry.Kind(_layout);
        (long offset, long length) = kind == ClusterKind.Compressed ? entry.CompressedSectors(_layout) : (entry.HostOffset, _layout.ClusterSize);
        bool holdsBytes = kind == ClusterKind.Compressed || (kind is ClusterKind.Normal or ClusterKind.ZeroAllocated && entry.ContainsData(_layout));
        if (!holdsBytes || _layout.IsOutside(offset, length))
        {
            return;
        }

        for (long cluster = offset >> _layout.ClusterBits; cluster <= (offset + length - 1) >> _layout.ClusterBits; cluster++)
        {
            if (_references.Holds(cluster) && ClusterReferences.IsContested(_references.Uses(cluster)))
            {
                DamageAt(index);
                return;
            }
        }
    }

    private long GuestOffset(int index) => (_l1Index * _layout.L1Coverage) + ((long)index << _layout.ClusterBits);

    private void DamageAt(int index) => Damage(GuestOffset(index), _layout.ClusterSize);

    private void Damage(long offset, long length)
    {
        if (!_isRepeat && (_references.IsFirstWindow || _marking))
        {
            Note(_visit, offset - (_l1Index * _layout.L1Coverage), length);
            Note(_rootVisit, offset, length);
            _report.Damage.Add(_root.Snapshot, offset, Math.Min(length, _root.DiskSize - offset));
        }
    }

    private static void Note(VisitedTable? visit, long offset, long length)
    {
        if (visit is not null)
        {
            visit.Damage ??= new GuestDamage();
            visit.Damage.Add(null, offset, length);
        }
    }

    private void ReportCopied(bool copied, long place, long offset, ulong refcount) => Report(
        CheckFindingKind.CopiedFlag, place, $"COPIED is {(copied ? 1 : 0)} in the entry at {place}, and the refcount of the cluster at {offset} is {refcount}");

    private void Report(CheckFindingKind kind, long hostOffset, string description, bool knownToQemu = true) =>
        _references.Report(kind, hostOffset, description, knownToQemu, _times);
}
