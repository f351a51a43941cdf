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
/// <para>Memory: about 130 bytes for each table that is remembered, so up to 64 MiB, and 32 MiB of damaged ranges.</para>
/// </summary>
internal sealed class VisitedTables
{
    internal const int TablesMax = 1 << 18;

    // With fewer entries repeats cannot cost much, and remembering is what a check of a small image would spend most of its time on.
    private const long EntriesMin = 128;

    // Tables whose damaged ranges are listed; later ones only count theirs.
    private const int DamageListsMax = 1 << 10;

    private readonly bool _remembers;
    private Dictionary<(ulong Entry, bool Active), VisitedTable>? _tables;
    private Dictionary<(long Offset, int Entries), VisitedTable>? _roots;
    private int _damaged;

    // Programs allocate upwards: most entries are larger than all before, and need no look into the dictionary.
    private ulong _largestEntry;

    /// <param name="entries">L1 entries of all tables that will be visited.</param>
    internal VisitedTables(long entries)
    {
        _remembers = entries > EntriesMin;
    }

    /// <summary>The visit of the L2 table that <paramref name="entry"/> leads to, flags included; null if there was none.</summary>
    internal VisitedTable? Find(CheckedL1Entry entry, bool active) =>
        entry.Raw > _largestEntry ? null : _tables?.GetValueOrDefault((entry.Raw, active));

    /// <summary>The visit of the same L1 table for another snapshot; null if there was none.</summary>
    internal VisitedTable? Find(GuestTableRoot root) => root.IsActive ? null : _roots?.GetValueOrDefault((root.Offset, root.Entries));

    /// <summary>Remembers the visit of an L2 table, which is not remembered yet; null if there are too many.</summary>
    internal VisitedTable? TryAdd(GuestTableRoot root, CheckedL1Entry entry, int l1Index)
    {
        if (!_remembers || _tables?.Count >= TablesMax)
        {
            return null;
        }

        VisitedTable table = new(root) { Entry = entry, L1Index = l1Index };
        (_tables ??= []).Add((entry.Raw, root.IsActive), table);
        _largestEntry = Math.Max(_largestEntry, entry.Raw);
        return table;
    }

    /// <summary>Remembers the visit of an L1 table, which is not remembered yet; null if there are too many, and for the active one.</summary>
    internal VisitedTable? TryAddRoot(GuestTableRoot root)
    {
        if (!_remembers || root.IsActive || _roots?.Count >= TablesMax)
        {
            return null;
        }

        VisitedTable table = new(root);
        (_roots ??= []).Add((root.Offset, root.Entries), table);
        return table;
    }

    /// <summary>L1 tables that were met again.</summary>
    internal IEnumerable<VisitedTable> RepeatedRoots => _roots?.Values.Where(table => table.Repeats > 0) ?? [];

    /// <summary>L2 tables that were met again.</summary>
    internal IEnumerable<VisitedTable> RepeatedTables => _tables?.Values.Where(table => table.Repeats > 0) ?? [];

    /// <summary>Notes a range that a visit found damaged; <paramref name="table"/> is null if the visit is not remembered.</summary>
    internal void Note(VisitedTable? table, long offset, long length)
    {
        if (table is not null)
        {
            DamageOf(table).Add(null, offset, length);
        }
    }

    /// <summary>What a visit found damaged, to be added to.</summary>
    internal GuestDamage DamageOf(VisitedTable table) => table.Damage ??= new GuestDamage(_damaged++ < DamageListsMax ? GuestDamage.RangesMax : 0);

    internal void Clear()
    {
        _tables?.Clear();
        _roots?.Clear();
        _damaged = 0;
        _largestEntry = 0;
    }
}
