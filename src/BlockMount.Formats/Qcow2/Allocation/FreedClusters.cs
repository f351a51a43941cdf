using BlockMount.Base;
using BlockMount.Formats.Qcow2.Metadata;
using BlockMount.Storage;

namespace BlockMount.Formats.Qcow2.Allocation;

/// <summary>
/// Quarantine of clusters that no table in memory points to any more (I4, I5). A run passes three gates in order: the tables
/// without it are on disk; everyone who may still be doing I/O to it has left; its space is given back to the host. Only then
/// its refcount drops, and only then it can be handed out again. Runs under the image's metadata mutex.
/// </summary>
public sealed class FreedClusters
{
    // A burst of discards must not grow this without bound: beyond it the tables are written back at once.
    private const int UnlinkedMax = 4096;

    private readonly StorageFile _file;
    private readonly Geometry _geometry;
    private readonly ClusterAllocator _allocator;
    private readonly ReclaimEpoch _epoch;
    private readonly OverlapChecks _checks;
    private readonly DiscardPolicy _discards;

    private List<Freed> _unlinked = [];
    private readonly Queue<Freed> _durable = new();

    public FreedClusters(
        StorageFile file, Geometry geometry, ClusterAllocator allocator, ReclaimEpoch epoch, OverlapChecks checks, DiscardPolicy discards)
    {
        _checks = checks;
        _file = file;
        _geometry = geometry;
        _allocator = allocator;
        _epoch = epoch;
        _discards = discards;
    }

    /// <summary>Nothing is waiting in any gate.</summary>
    public bool IsEmpty => _unlinked.Count == 0 && _durable.Count == 0;

    /// <summary>So many runs wait for the tables to be written that it should be done now.</summary>
    public bool IsCrowded => _unlinked.Count >= UnlinkedMax;

    /// <summary>Takes in a run that the tables in memory have just stopped pointing to.</summary>
    public void Unlinked(HostRun run, FreeReason reason)
    {
        if (_unlinked.Count > 0 && _unlinked[^1] is var last
            && last.Epoch == _epoch.Current && last.Reason == reason && last.Run.End == run.Start)
        {
            _unlinked[^1] = last with { Run = new HostRun(last.Run.Start, last.Run.Count + run.Count) };
            return;
        }

        _unlinked.Add(new Freed(run, _epoch.Current, reason));
    }

    /// <summary>
    /// Takes out what the tables that are being written now no longer point to. Give it to <see cref="NowDurable"/> when they have been
    /// flushed, or back to <see cref="StillUnlinked"/>.
    /// </summary>
    public IReadOnlyList<Freed> TakeUnlinked()
    {
        List<Freed> taken = _unlinked;
        _unlinked = [];
        return taken;
    }

    /// <summary>The tables without these runs are on disk.</summary>
    public void NowDurable(IReadOnlyList<Freed> runs)
    {
        foreach (Freed freed in runs)
        {
            _durable.Enqueue(freed);
        }
    }

    /// <summary>Writing or flushing the tables failed.</summary>
    public void StillUnlinked(IReadOnlyList<Freed> runs) => _unlinked.InsertRange(0, runs);

    /// <summary>Frees what has passed the first two gates. On failure the rest stays in quarantine.</summary>
    public async ValueTask ReleaseReadyAsync()
    {
        while (_durable.TryPeek(out Freed freed) && (_epoch.HasPassed(freed.Epoch) || HistoricBug.Is(Bug.D2FreedClusterReusedInFlight)))
        {
            if (_discards.Passes(freed.Reason) && !HistoricBug.Is(Bug.D3HolePunchedAfterReuse))
            {
                await PunchAsync(freed.Run);
            }

            // Out of the queue first: a refcount must not drop twice when the second of two clusters fails.
            _durable.Dequeue();
            await _allocator.ReleaseAsync(freed.Run);
        }
    }

    /// <summary>
    /// Gives back the space of clusters that were discarded and stay linked as preallocated zeros. The caller holds the lock of their guest clusters,
    /// so that nobody fills them before the hole is there (RELIABILITY D3); an older write that is still on its way may take the space again.
    /// </summary>
    public ValueTask PunchKeptAsync(HostRun run) => _discards.PassRequest ? PunchCoreAsync(run) : ValueTask.CompletedTask;

    // Before the refcount drops, so a hole can never be punched into a cluster that was handed out again (RELIABILITY D3).
    private async ValueTask PunchAsync(HostRun run)
    {
        long first = 0;
        for (long i = 0; i <= run.Count; i++)
        {
            if (i < run.Count && await _allocator.IsLastReferenceAsync(run.Start + i))
            {
                continue;
            }

            if (i > first)
            {
                await PunchCoreAsync(new HostRun(run.Start + first, i - first));
            }

            first = i + 1;
        }
    }

    internal async ValueTask PunchCoreAsync(HostRun run)
    {
        _checks.CheckData(run);
        try
        {
            await _file.PunchHoleAsync(_geometry.OffsetOf(run.Start), run.Count << _geometry.ClusterBits);
        }
        catch (BlockIOException)
        {
            // The space stays with the file and the cluster can be used again all the same: nothing of the guest's depends on it.
        }
    }

    /// <summary>A run in quarantine.</summary>
    /// <param name="Epoch">The reclaim epoch in which it was unlinked.</param>
    public readonly record struct Freed(HostRun Run, long Epoch, FreeReason Reason);
}
