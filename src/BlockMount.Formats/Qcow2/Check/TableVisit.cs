namespace BlockMount.Formats.Qcow2.Check;

/// <summary>
/// Where the walk of the guest tables is, and what becomes of the damage that is found there. The walk sets it; those that count and mark L2 tables
/// read it. Single-threaded.
/// </summary>
internal sealed class TableVisit
{
    private static readonly GuestTableRoot s_unclipped = new(null, 0, 0, long.MaxValue, 0);

    private readonly CheckedLayout _layout;
    private readonly ClusterReferences _references;
    private readonly CheckReport _report;
    private readonly VisitedTables _visited;

    internal TableVisit(CheckedLayout layout, ClusterReferences references, CheckReport report, VisitedTables visited)
    {
        _layout = layout;
        _references = references;
        _report = report;
        _visited = visited;
    }

    /// <summary>The L1 table.</summary>
    internal GuestTableRoot Root { get; set; } = s_unclipped;

    /// <summary>Index of the entry in it.</summary>
    internal int L1Index { get; set; }

    /// <summary>How often what is visited counts.</summary>
    internal long Times { get; set; } = 1;

    /// <summary>It was visited before and only has to be counted: its damage is known.</summary>
    internal bool IsRepeat { get; set; }

    /// <summary>Instead of counting, the walk looks for entries whose clusters have owners that exclude each other.</summary>
    internal bool IsMarking { get; set; }

    /// <summary>Where the damage of the L2 table is noted for repeats; null if this visit is not remembered.</summary>
    internal VisitedTable? Table { get; set; }

    /// <summary>The same for the L1 table.</summary>
    internal VisitedTable? RootTable { get; set; }

    /// <summary>Guest offset of the first byte that the L1 entry describes.</summary>
    internal long Start => L1Index * _layout.L1Coverage;

    /// <summary>The guest range of everything that the L1 entry describes is in doubt.</summary>
    internal void DamageL1Entry() => Damage(Start, _layout.L1Coverage);

    /// <summary>The guest cluster of an entry of the L2 table is in doubt.</summary>
    internal void DamageL2Entry(int index) => Damage(GuestOffset(index), _layout.ClusterSize);

    /// <summary>Guest offset of what an entry of the L2 table describes.</summary>
    internal long GuestOffset(int index) => Start + ((long)index << _layout.ClusterBits);

    /// <summary>A guest range is in doubt.</summary>
    internal void Damage(long offset, long length)
    {
        if (!IsRepeat && (_references.IsFirstWindow || IsMarking))
        {
            _visited.Note(Table, offset - Start, length);
            _visited.Note(RootTable, offset, length);
            _report.Damage.Add(Root.Snapshot, offset, Math.Min(length, Root.DiskSize - offset));
        }
    }

    /// <summary>The L1 table was met before: the same damage for another disk state.</summary>
    internal void RepeatRootDamage(VisitedTable before, GuestTableRoot root) =>
        before.RepeatDamage(_report.Damage, root, 0, 1, root.Entries * _layout.L1Coverage);

    /// <summary>The L2 table was met too often before to be read again: nobody knows what <paramref name="count"/> entries from <paramref name="l1Index"/> on mean.</summary>
    internal void LeaveUnread(int l1Index, int count)
    {
        if (IsRepeat || IsMarking || !_references.IsFirstWindow)
        {
            return;
        }

        long place = Root.Offset + (l1Index * 8L);
        long start = l1Index * _layout.L1Coverage;
        _report.UnreadTables += count;
        _report.Add(CheckFindingKind.Unchecked, place, $"the entry at {place} refers to an L2 table that others refer to as well; it was not read again", times: count);
        _report.Damage.Add(Root.Snapshot, start, Math.Min(count * _layout.L1Coverage, Root.DiskSize - start));
    }

    /// <summary>The L2 table was met before: the same damage for <paramref name="count"/> further entries from <paramref name="l1Index"/> on.</summary>
    internal void RepeatTableDamage(VisitedTable before, int l1Index, int count)
    {
        if (IsRepeat || before.Damage is null)
        {
            return;
        }

        long start = l1Index * _layout.L1Coverage;
        before.RepeatDamage(_report.Damage, Root, start, count, _layout.L1Coverage);
        if (RootTable is { } rootTable)
        {
            before.RepeatDamage(_visited.DamageOf(rootTable), s_unclipped, start, count, _layout.L1Coverage);
        }
    }
}
