using BlockMount.Storage;

namespace BlockMount.Formats.Qcow2.Check;

/// <summary>
/// Visits the L1 tables of disk states, each table once however often it is named, and has what hangs on them counted (<see cref="L2TableCount"/>) or
/// marked (<see cref="ConflictMarks"/>). Single-threaded; holds one chunk of an L1 table and one L2 table.
/// </summary>
internal sealed class GuestTableWalk
{
    /// <summary>L2 entries of an image with a data file that a walk visits more than once.</summary>
    internal const long RevisitedEntriesMax = 16 << 20;

    private readonly CheckedLayout _layout;
    private readonly ClusterReferences _references;
    private readonly TableReader _l1;
    private readonly VisitedTables _visited;
    private readonly TableVisit _visit;
    private readonly L2TableCount _count;
    private readonly ConflictMarks _marks;

    // L2 entries that may be visited again in an image with a data file.
    private long _revisitsLeft;

    /// <param name="roots">The L1 tables that will be handed in.</param>
    internal GuestTableWalk(
        StorageFile file, CheckedLayout layout, HoleMap holes, ClusterReferences references, StoredRefcounts stored, CheckReport report, IReadOnlyList<GuestTableRoot> roots)
    {
        _layout = layout;
        _references = references;
        _l1 = new TableReader(file, holes, roots.Max(root => root.Bytes));
        _visited = new VisitedTables(roots.Sum(root => (long)root.Entries));
        _visit = new TableVisit(layout, references, report, _visited);
        CheckedL2Table l2 = new(file, layout, holes);
        _count = new L2TableCount(layout, references, stored, report, l2, _visit);
        _marks = new ConflictMarks(layout, references, l2, _visit);
    }

    /// <summary>Counts every reference of <paramref name="root"/> into the current window.</summary>
    internal ValueTask CountAsync(GuestTableRoot root, Action<int>? progress = null)
    {
        _visit.IsMarking = false;
        _revisitsLeft = root.IsActive ? RevisitedEntriesMax : _revisitsLeft;
        return root.Entries == 0 ? ValueTask.CompletedTask : WalkAsync(root, progress);
    }

    /// <summary>Adds the guest ranges of entries whose clusters have owners that exclude each other, once everything is counted and compared.</summary>
    internal ValueTask MarkAsync(GuestTableRoot root)
    {
        _visit.IsMarking = true;
        _revisitsLeft = root.IsActive ? RevisitedEntriesMax : _revisitsLeft;
        return root.Entries == 0 ? ValueTask.CompletedTask : WalkAsync(root, progress: null);
    }

    /// <summary>Counts what was met more than once, with its multiplicity; ends a count of all roots.</summary>
    internal async ValueTask CountRepeatsAsync()
    {
        _visit.IsRepeat = true;
        foreach (VisitedTable before in _visited.RepeatedRoots)
        {
            // Multiplies the repeats of its entries, which are counted below.
            _visit.Times = before.Repeats;
            await WalkEntriesAsync(before.Root, progress: null);
        }

        foreach (VisitedTable before in _visited.RepeatedTables)
        {
            _visit.Root = before.Root;
            _visit.L1Index = before.L1Index;
            _visit.Times = before.Repeats;
            await _count.CountAsync(before.Entry, before.Root.Offset + (before.L1Index * 8L));
        }

        _visit.IsRepeat = false;
        _visit.Times = 1;
        _visited.Clear();
    }

    /// <summary>Ends the calls of <see cref="MarkAsync"/>.</summary>
    internal void EndMarking() => _visited.Clear();

    private async ValueTask WalkAsync(GuestTableRoot root, Action<int>? progress)
    {
        if (_visited.Find(root) is { } before)
        {
            before.Repeats++;
            _visit.RepeatRootDamage(before, root);
            return;
        }

        _visit.RootTable = _visited.TryAddRoot(root);
        await WalkEntriesAsync(root, progress);
        _visit.RootTable = null;
    }

    private async ValueTask WalkEntriesAsync(GuestTableRoot root, Action<int>? progress)
    {
        _visit.Root = root;
        _visit.L1Index = 0;
        if (!_visit.IsMarking && !_references.Add(root.Offset, root.Bytes, ClusterUses.Structure, active: true, root.Referrer, _visit.Times))
        {
            _visit.Damage(0, long.MaxValue);
        }

        _l1.Select(root.Offset, root.Bytes);
        int run;
        for (int i = 0; i < root.Entries; i += run)
        {
            CheckedL1Entry entry = new(await _l1.ReadAsync(i));
            run = _l1.RunLength(i);
            if (entry.Raw != 0)
            {
                await VisitAsync(entry, i, run);
            }

            progress?.Invoke(i + run - 1);
        }
    }

    private void Repeat(VisitedTable before, int l1Index, int count)
    {
        if (_layout.HasDataFile)
        {
            _visit.LeaveUnread(l1Index, count);
        }
        else
        {
            _visit.RepeatTableDamage(before, l1Index, count);
        }
    }

    // An external data file gives each entry a place of its own, so that the second visit of a table finds other things than the first. At most one can be
    // right, and no sound image has a second: there is an end to that.
    private bool TryRevisit()
    {
        _revisitsLeft -= _layout.L2Entries;
        return _revisitsLeft >= 0;
    }

    // A run of equal entries.
    private async ValueTask VisitAsync(CheckedL1Entry entry, int first, int run)
    {
        for (int i = first; i < first + run; i++)
        {
            VisitedTable? before = _visited.Find(entry, _visit.Root.IsActive);
            if (before is not null && !(_layout.HasDataFile && TryRevisit()))
            {
                before.Repeats += _visit.Times * (first + run - i);
                Repeat(before, i, first + run - i);
                return;
            }

            _visit.L1Index = i;
            _visit.Table = before is not null || _visit.IsRepeat ? null : _visited.TryAdd(_visit.Root, entry, i);
            await (_visit.IsMarking ? _marks.MarkAsync(entry.TableOffset) : _count.CountAsync(entry, _visit.Root.Offset + (i * 8L)));
            _visit.Table = null;
        }
    }
}
