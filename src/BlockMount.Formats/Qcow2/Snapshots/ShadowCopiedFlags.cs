using BlockMount.Formats.Qcow2.Metadata;
using BlockMount.Formats.Qcow2.OnDisk;
using BlockMount.Storage;

namespace BlockMount.Formats.Qcow2.Snapshots;

/// <summary>
/// Makes L2 tables with other COPIED flags, as copies in free clusters: the tables in force are not touched. COPIED says that a cluster's refcount
/// is exactly one; it must be right in the active tree (qcow2 specification, "L2 table entry"). Part of a <see cref="ShadowChange"/>.
/// </summary>
internal sealed class ShadowCopiedFlags
{
    // What a window says of a cluster whose count changes.
    private const int BecomesOne = 1;
    private const int BecomesOther = 2;

    private readonly StorageFile _file;
    private readonly Geometry _geometry;
    private readonly ShadowChange _change;
    private readonly int _l2EntrySize;
    private readonly int _windowClusters;

    internal ShadowCopiedFlags(
        StorageFile file, Geometry geometry, ShadowChange change, int l2EntrySize, int windowClusters = ReferenceWindow.ClustersMax)
    {
        _file = file;
        _geometry = geometry;
        _change = change;
        _l2EntrySize = l2EntrySize;
        _windowClusters = windowClusters;
    }

    /// <summary>
    /// L1 entries for a state that shares everything: COPIED is cleared in the first <paramref name="count"/> entries of <paramref name="l1"/>, and in
    /// copies of those of their tables that have it. The other entries stay as they are.
    /// </summary>
    /// <param name="copiesAreShared">A copy of a table is used by more than one tree; otherwise it is the only one's, and its L1 entry says so.</param>
    internal async ValueTask<L1Entry[]> ClearAsync(L1Entry[] l1, int count, bool copiesAreShared)
    {
        L1Entry[] cleared = [.. l1];
        using L2TableBuffer table = new(_file, _geometry, _l2EntrySize);
        for (int i = 0; i < count; i++)
        {
            if (!l1[i].IsPresent)
            {
                continue;
            }

            cleared[i] = L1Entry.ForSharedTable(l1[i].TableOffset);
            await table.LoadAsync(l1[i].TableOffset);
            if (ClearIn(table))
            {
                HostRun copy = await _change.AllocateAsync(1);
                await table.StoreAsync(copy.Start);
                cleared[i] = L1Entry.ForOwnTable(_geometry.OffsetOf(copy.Start)).WithCopied(!copiesAreShared);
            }
        }

        return cleared;
    }

    /// <summary>
    /// L1 entries for the active state after <paramref name="changes"/>, which take references away: COPIED is set where one reference is left, in
    /// the L1 entries and in copies of the tables in which that changes anything.
    /// </summary>
    /// <param name="restored">
    /// Starts as a copy of <paramref name="l1"/>; copies made for earlier windows are in it, and <paramref name="changes"/> may look at it.
    /// </param>
    internal async ValueTask RestoreAsync(IReferenceChanges changes, RefcountTable refcounts, L1Entry[] l1, L1Entry[] restored)
    {
        // What the changes take away lies where the present structure counts.
        long end = (long)refcounts.EntryCount << _geometry.RefcountBlockBits;
        ReferenceWindow window = new(ReferenceWindow.LengthFor(Math.Min(end, UsedEnd()), _windowClusters));
        using L2TableBuffer table = new(_file, _geometry, _l2EntrySize);
        for (long start = 0; start < Math.Min(end, UsedEnd()); start += window.Length)
        {
            window.MoveTo(new HostCluster(start));
            await changes.ReportAsync(window);
            if (window.IsTouched)
            {
                await FindOnesAsync(window, refcounts);
                await RestoreInWindowAsync(window, table, l1, restored);
            }
        }
    }

    private long UsedEnd() => _geometry.ClustersFor(_file.Length);

    private static bool ClearIn(L2TableBuffer table)
    {
        bool any = false;
        for (int k = 0; k < table.Count; k++)
        {
            L2Entry entry = table[k];
            if (entry.IsCopied)
            {
                table[k] = entry.WithCopied(false);
                any = true;
            }
        }

        return any;
    }

    // From sums of changes to what the count becomes.
    private static async ValueTask FindOnesAsync(ReferenceWindow window, RefcountTable refcounts)
    {
        for (int i = 0; i < window.Length; i++)
        {
            HostCluster cluster = window.Start + i;
            int delta = window[cluster];
            if (delta != 0)
            {
                // Damage shows as other than one here, and is reported where the new counts are written.
                ulong after = await refcounts.GetAsync(cluster) + (ulong)delta;
                window[cluster] = after == 1 ? BecomesOne : BecomesOther;
            }
        }
    }

    private async ValueTask RestoreInWindowAsync(ReferenceWindow window, L2TableBuffer table, L1Entry[] l1, L1Entry[] restored)
    {
        for (int i = 0; i < l1.Length; i++)
        {
            if (!l1[i].IsPresent)
            {
                continue;
            }

            HostCluster old = _geometry.HostClusterOf(l1[i].TableOffset);
            bool isCopy = restored[i].TableOffset != l1[i].TableOffset;
            if (!isCopy && window.Covers(old) && window[old] != 0)
            {
                restored[i] = l1[i].WithCopied(window[old] == BecomesOne);
            }

            await table.LoadAsync(restored[i].TableOffset);
            if (!RestoreIn(window, table))
            {
                continue;
            }

            HostCluster place = isCopy ? _geometry.HostClusterOf(restored[i].TableOffset) : (await _change.AllocateAsync(1)).Start;
            await table.StoreAsync(place);
            restored[i] = L1Entry.ForOwnTable(_geometry.OffsetOf(place));
        }
    }

    private static bool RestoreIn(ReferenceWindow window, L2TableBuffer table)
    {
        bool any = false;
        for (int k = 0; k < table.Count; k++)
        {
            L2Entry entry = table[k];
            if (entry.IsCompressed || !table.TryGetClusters(entry, out HostRun clusters) || !window.Covers(clusters.Start))
            {
                continue;
            }

            int becomes = window[clusters.Start];
            if (becomes != 0 && entry.IsCopied != (becomes == BecomesOne))
            {
                table[k] = entry.WithCopied(becomes == BecomesOne);
                any = true;
            }
        }

        return any;
    }
}
