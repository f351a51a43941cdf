using BlockMount.Storage;

namespace BlockMount.Formats.Qcow2.Check;

/// <summary>
/// Compares the refcounts that a qcow2 image stores with the references that it contains. Reads the file itself and shares nothing with the driver,
/// so that it can be its judge. The file must not change meanwhile. Changes nothing. Counts and exit code are those of qemu-img check (7.2), with the
/// exception of <see cref="CheckReport.CorruptionsUnknownToQemu"/>.
/// <para>Memory is bounded: 3 bytes for each host cluster that something refers to or that lies near one, at most 96 MiB (larger files are walked once for
/// each window of 32 Mi clusters in which there is something), 32 MiB of refcount blocks, and what is remembered of tables that were visited: 130 bytes for
/// each, at most 64 MiB, and 32 MiB of their damaged ranges (<see cref="VisitedTables"/>). Time is proportional to the metadata that the file holds: what
/// lies in holes is not read, and tables that overlap, or that no file of that size can hold, are left unread beyond a budget
/// (<see cref="CheckReport.UnreadTables"/>).</para>
/// </summary>
public sealed class ConsistencyCheck
{
    private readonly CheckedLayout _layout;
    private readonly SnapshotList _snapshots;
    private readonly CheckOptions _options;
    private readonly CheckReport _report = new();
    private readonly StoredRefcounts _stored;
    private readonly ClusterReferences _references;
    private readonly ReferenceWalk _walk;
    private long _lastUsedCluster;

    private ConsistencyCheck(StorageFile file, CheckedLayout layout, SnapshotList snapshots, CheckOptions options)
    {
        _layout = layout;
        _snapshots = snapshots;
        _options = options;
        HoleMap holes = new(file);
        _stored = new StoredRefcounts(file, layout, holes, options.Memory);
        _references = new ClusterReferences(layout, _report, options.WindowClusters, options.Memory);
        _walk = new ReferenceWalk(file, layout, holes, snapshots, _references, _stored, _report);
    }

    /// <summary>Checks the image in <paramref name="file"/>, which stays open.</summary>
    /// <exception cref="ImageFormatException">The header cannot be used: there is nothing to check.</exception>
    /// <exception cref="Base.BlockIOException">The file cannot be read.</exception>
    public static async ValueTask<CheckReport> RunAsync(StorageFile file, CheckOptions? options = null)
    {
        CheckedLayout layout = await CheckedLayout.ReadAsync(file);
        SnapshotList snapshots = await SnapshotList.ReadAsync(file, layout);
        return await new ConsistencyCheck(file, layout, snapshots, options ?? new CheckOptions()).RunAsync();
    }

    private async ValueTask<CheckReport> RunAsync()
    {
        _report.TotalClusters = (_layout.VirtualSize + _layout.ClusterSize - 1) >> _layout.ClusterBits;
        _snapshots.Report(_layout, _report);
        long tables = _walk.Roots.Sum(root => (long)root.Entries) + 1;
        do
        {
            double share = Math.Min(1, (double)(_references.WindowEnd - _references.WindowStart) / (_layout.FileClusters + 1));
            double start = Math.Min(1, (double)_references.WindowStart / (_layout.FileClusters + 1));
            Action<long>? progress = _options.Progress is { } tell ? done => tell(start + (share * done / tables)) : null;
            await _walk.RunAsync(progress);
            await CompareAsync(_references.WindowStart, Math.Min(_references.WindowEnd, _references.FileClusters));
            if (_references.HasConflicts)
            {
                await _walk.MarkConflictsAsync();
            }
        }
        while (_references.NextWindow(await NextStoredAsync(_references.WindowEnd)));

        _report.ImageEndOffset = (_lastUsedCluster + 1) << _layout.ClusterBits;
        _report.Damage.Normalize();
        _options.Progress?.Invoke(1);
        return _report;
    }

    // The first cluster from that one on that has a refcount block.
    private async ValueTask<long> NextStoredAsync(long cluster)
    {
        long block = await _stored.NextBlockAsync(cluster / _layout.RefcountBlockEntries);
        return block == long.MaxValue ? long.MaxValue : Math.Max(cluster, block * _layout.RefcountBlockEntries);
    }

    private async ValueTask CompareAsync(long first, long end)
    {
        for (long start = first; start < end;)
        {
            long stored = Math.Min(end, await NextStoredAsync(start));
            CompareWithNothing(start, stored);
            start = Math.Min(end, (stored / _layout.RefcountBlockEntries + 1) * _layout.RefcountBlockEntries);
            await CompareWithBlockAsync(stored, start);
        }
    }

    // No refcount block counts these: all their refcounts are 0.
    private void CompareWithNothing(long first, long end)
    {
        for (long cluster = _references.NextReferenced(first, end); cluster < end; cluster = _references.NextReferenced(cluster + 1, end))
        {
            Compare(cluster, stored: 0, BlockState.Absent);
        }
    }

    private async ValueTask CompareWithBlockAsync(long first, long end)
    {
        if (first < end)
        {
            await _stored.LoadAsync(first / _layout.RefcountBlockEntries);
        }

        for (long cluster = first; cluster < end; cluster++)
        {
            _ = _stored.TryGet(cluster, out ulong stored, out BlockState state);
            long leaked = cluster % StoredRefcounts.UsedClustersUnit == 0 && state == BlockState.Readable && !_report.IsListing ? CountLeaks(cluster, end) : 0;
            if (leaked > 0)
            {
                cluster += leaked - 1;
            }
            else
            {
                Compare(cluster, stored, state);
            }
        }
    }

    // Counts leaks, which nobody lists, as far as nothing has references; how many clusters that are.
    private long CountLeaks(long first, long end)
    {
        long stop = _references.UntouchedEnd(first, end) & -StoredRefcounts.UsedClustersUnit;
        if (stop <= first)
        {
            return 0;
        }

        (long used, long last) = _stored.CountUsed(first, stop);
        if (used > 0)
        {
            _lastUsedCluster = last;
            _report.Add(CheckFindingKind.Leak, last << _layout.ClusterBits, "", times: used);
        }

        return stop - first;
    }

    private void Compare(long cluster, ulong stored, BlockState state)
    {
        long offset = cluster << _layout.ClusterBits;
        if (state == BlockState.Misaligned)
        {
            _report.Add(CheckFindingKind.Unchecked, offset, $"the refcount of the cluster at {offset} cannot be read: its refcount block is not aligned");
            return;
        }

        ulong references = _references.Count(cluster);
        if (stored == 0 && references == 0)
        {
            return;
        }

        _lastUsedCluster = cluster;
        if (stored < references)
        {
            _report.RefcountsNeedRebuild |= stored == 0;
            ClusterUses uses = _references.Uses(cluster);
            _report.Add(
                ClusterReferences.IsContested(uses) ? CheckFindingKind.Overlap : CheckFindingKind.RefcountTooLow,
                offset,
                $"the cluster at {offset} ({uses & ClusterUses.Kinds}) has refcount {stored} and {references} references");
        }
        else if (stored > references)
        {
            _report.Add(CheckFindingKind.Leak, offset, $"the cluster at {offset} has refcount {stored} and {references} references");
        }
        else
        {
            CompareUses(cluster, offset);
        }
    }

    private void CompareUses(long cluster, long offset)
    {
        ClusterUses uses = _references.Uses(cluster);
        if (ClusterReferences.IsHiddenConflict(uses))
        {
            _report.Add(CheckFindingKind.Overlap, offset, $"the cluster at {offset} is used at the same time for: {uses & ClusterUses.Kinds}", knownToQemu: false);
        }
        else if (ClusterReferences.IsContested(uses))
        {
            // Shared with a right refcount: a write copies it first. Nothing is lost.
            _report.SharedActiveClusters += (uses & ClusterUses.Doubled) != 0 ? 1 : 0;
            _references.Absolve(cluster);
        }
    }
}
