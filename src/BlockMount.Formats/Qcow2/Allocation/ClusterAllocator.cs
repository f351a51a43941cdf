using System.Diagnostics;
using BlockMount.Formats.Qcow2.Metadata;
using BlockMount.Storage;

namespace BlockMount.Formats.Qcow2.Allocation;

/// <summary>
/// Hands out free clusters of the image file and takes them back. Runs under the image's metadata mutex. A cluster is free when its
/// refcount is 0: quarantined clusters keep theirs (<see cref="FreedClusters"/>), so they are never handed out.
/// </summary>
public sealed class ClusterAllocator
{
    private readonly StorageFile _file;
    private readonly Geometry _geometry;
    private readonly RefcountTable _refcounts;
    private readonly WriteBackOrder _order;
    private readonly OverlapChecks _checks;

    // Every cluster below is in use.
    private HostCluster _firstFree;

    public ClusterAllocator(StorageFile file, Geometry geometry, RefcountTable refcounts, WriteBackOrder order, OverlapChecks checks)
    {
        _checks = checks;
        _file = file;
        _geometry = geometry;
        _refcounts = refcounts;
        _order = order;
    }

    /// <summary>Called, under the mutex, when a cluster's last reference has been taken from it; null for nobody.</summary>
    public Action<HostCluster>? ClusterFreed { get; set; }

    /// <summary>
    /// Takes 1 to <paramref name="count"/> contiguous clusters, with refcount 1. On failure nothing was taken.
    /// </summary>
    /// <returns>The clusters, and whether all of them read as zeros because nothing was ever written there.</returns>
    public async ValueTask<(HostRun Run, bool Fresh)> AllocateAsync(long count)
    {
        HostCluster from = _firstFree;
        HostCluster start = await FindDescribedFreeAsync(from);
        HostRun run = new(start, await FreeRunLengthAsync(start, count));
        bool fresh = await TakeAsync(run);
        // Unless clusters before it became free meanwhile (an old refcount table), the search goes on behind this run.
        if (_firstFree == from)
        {
            _firstFree = run.End;
        }

        return (run, fresh);
    }

    /// <summary>Takes exactly <paramref name="count"/> contiguous clusters, with refcount 1. On failure nothing was taken.</summary>
    public async ValueTask<HostRun> AllocateContiguousAsync(long count)
    {
        HostCluster start;
        if (count >= 1L << _geometry.RefcountBlockBits)
        {
            start = await _refcounts.ReserveFreshRunAsync(count);
        }
        else
        {
            start = await FindDescribedFreeAsync(_firstFree);
            while (await FreeRunLengthAsync(start, count) is long length && length < count)
            {
                start = await FindDescribedFreeAsync(start + length);
            }
        }

        HostRun run = new(start, count);
        await TakeAsync(run);
        return run;
    }

    /// <summary>Takes one reference from each cluster of the run; those that reach 0 are free.</summary>
    public async ValueTask ReleaseAsync(HostRun run)
    {
        for (long i = 0; i < run.Count; i++)
        {
            await ReleaseOneAsync(run.Start + i);
        }
    }

    /// <summary>True if nobody else refers to the cluster.</summary>
    public async ValueTask<bool> IsLastReferenceAsync(HostCluster cluster) => await _refcounts.GetAsync(cluster) == 1;

    private async ValueTask ReleaseOneAsync(HostCluster cluster)
    {
        ulong refcount = await _refcounts.GetAsync(cluster);
        if (refcount == 0)
        {
            throw _checks.Health.Damaged("a cluster that is in use has refcount 0", _geometry.OffsetOf(cluster));
        }

        await _refcounts.SetAsync(cluster, refcount - 1);
        if (refcount == 1)
        {
            ClusterFreed?.Invoke(cluster);
            _firstFree = new HostCluster(HistoricBug.Is(Bug.D6FreedNeverReused) ? _firstFree.Index : Math.Min(_firstFree.Index, cluster.Index));
        }
    }

    // A free cluster whose refcount can be stored. Creating a refcount block may take the cluster that was found.
    private async ValueTask<HostCluster> FindDescribedFreeAsync(HostCluster from)
    {
        while (true)
        {
            HostCluster start = await _refcounts.FindFreeAsync(from);
            HostRun tableBefore = _refcounts.Location;
            if (!await _refcounts.EnsureBlockAsync(start))
            {
                return start;
            }

            if (_refcounts.Location != tableBefore)
            {
                // The old table's clusters are free now.
                _firstFree = new HostCluster(Math.Min(_firstFree.Index, tableBefore.Start.Index));
            }
        }
    }

    private async ValueTask<long> FreeRunLengthAsync(HostCluster start, long count)
    {
        long length = 1;
        while (length < count && _refcounts.IsDescribed(start + length) && await _refcounts.GetAsync(start + length) == 0)
        {
            length++;
        }

        return length;
    }

    private async ValueTask<bool> TakeAsync(HostRun run)
    {
        // A refcount may be wrong: then the tables would be overwritten, and nobody would notice for days (RELIABILITY D4).
        _checks.CheckAllocation(run);
        Debug.Assert(run.Start.Index > 0, "cluster 0 holds the header");
        long taken = 0;
        try
        {
            for (; taken < run.Count; taken++)
            {
                await _refcounts.SetAsync(run.Start + taken, 1);
            }
        }
        catch
        {
            await UndoTakeAsync(run.Start, taken);
            throw;
        }

        // What lies behind the end of the file was never written, whatever failed before.
        bool fresh = _geometry.OffsetOf(run.Start) >= _file.Length;
        _order.FileMustCover(_geometry.OffsetOf(run.End));
        return fresh;
    }

    private async ValueTask UndoTakeAsync(HostCluster start, long count)
    {
        for (long i = 0; i < count; i++)
        {
            await _refcounts.SetAsync(start + i, 0);
        }
    }
}
