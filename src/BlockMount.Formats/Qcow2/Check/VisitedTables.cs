namespace BlockMount.Formats.Qcow2.Check;

/// <summary>A table that was visited, and how often it was met again.</summary>
/// <param name="root">The disk state that led to it first.</param>
internal sealed class VisitedTable(GuestTableRoot root)
{
    internal GuestTableRoot Root { get; } = root;

    /// <summary>The L1 entry that led to an L2 table; empty for an L1 table.</summary>
    internal CheckedL1Entry Entry { get; init; }

    /// <summary>Index of <see cref="Entry"/>.</summary>
    internal int L1Index { get; init; }

    /// <summary>References like the first one that are still to be counted.</summary>
    internal long Repeats { get; set; }

    /// <summary>What the visit found damaged, unclipped and relative to the first byte that the table describes; null for nothing.</summary>
    internal GuestDamage? Damage { get; set; }

    /// <summary>Adds the same damage where the table was met again.</summary>
    /// <param name="root">There.</param>
    /// <param name="start">Guest offset of the first byte that the table describes there.</param>
    /// <param name="count">Times in a row.</param>
    /// <param name="coverage">Bytes that the table describes.</param>
    internal void RepeatDamage(GuestDamage damage, GuestTableRoot root, long start, int count, long coverage)
    {
        if (Damage is not { } found)
        {
            return;
        }

        if (found.Ranges.Count == 1 && found.Ranges[0].Length == coverage)
        {
            damage.Add(root.Snapshot, start, Math.Min(count * coverage, root.DiskSize - start));
            return;
        }

        for (int i = 0; i < count && start < root.DiskSize; i++, start += coverage)
        {
            if (damage.IsCutOff)
            {
                // Nobody lists them any more.
                long times = Math.Min(count - i, (root.DiskSize - start + coverage - 1) / coverage);
                damage.AddUnlisted(times * found.TotalRanges, Math.Min(times * found.TotalBytes, root.DiskSize - start));
                return;
            }

            foreach (GuestRange range in found.Ranges)
            {
                damage.Add(root.Snapshot, start + range.Offset, Math.Min(range.Length, root.DiskSize - start - range.Offset));
            }

            if (found.IsCutOff)
            {
                damage.AddUnlisted(found.TotalRanges - found.Ranges.Count, Math.Min(found.TotalBytes - found.Ranges.Sum(range => range.Length), root.DiskSize - start));
            }
        }
    }
}

/// <summary>
/// The tables that a walk has visited, so that one that millions of entries name is read once and counted with its multiplicity: hostile images do
/// that, and the work must be bounded by the size of the metadata. Single-threaded; at most <see cref="TablesMax"/> tables and as many roots, what comes
/// later is not remembered and is visited each time.
/// </summary>
internal sealed class VisitedTables
{
    internal const int TablesMax = 1 << 18;

    private readonly Dictionary<(ulong Entry, bool Active), VisitedTable> _tables = [];
    private readonly Dictionary<(long Offset, int Entries), VisitedTable> _roots = [];

    /// <summary>The visit of the L2 table that <paramref name="entry"/> leads to, flags included; null if there was none.</summary>
    internal VisitedTable? Find(CheckedL1Entry entry, bool active) => _tables.GetValueOrDefault((entry.Raw, active));

    /// <summary>The visit of the same L1 table for another snapshot; null if there was none.</summary>
    internal VisitedTable? Find(GuestTableRoot root) => root.IsActive ? null : _roots.GetValueOrDefault((root.Offset, root.Entries));

    /// <summary>Remembers the visit of an L2 table; false if there are too many.</summary>
    internal bool TryAdd(VisitedTable table) =>
        _tables.Count < TablesMax && _tables.TryAdd((table.Entry.Raw, table.Root.IsActive), table);

    /// <summary>Remembers the visit of an L1 table; false if there are too many.</summary>
    internal bool TryAddRoot(VisitedTable table) =>
        !table.Root.IsActive && _roots.Count < TablesMax && _roots.TryAdd((table.Root.Offset, table.Root.Entries), table);

    /// <summary>L1 tables that were met again.</summary>
    internal IEnumerable<VisitedTable> RepeatedRoots => _roots.Values.Where(table => table.Repeats > 0);

    /// <summary>L2 tables that were met again.</summary>
    internal IEnumerable<VisitedTable> RepeatedTables => _tables.Values.Where(table => table.Repeats > 0);

    internal void Clear()
    {
        _tables.Clear();
        _roots.Clear();
    }
}
