namespace BlockMount.Formats.Qcow2.Allocation;

/// <summary>
/// Guest clusters, or parts of them, that stopped being data a short while ago and kept their place in the file. Whoever found them as data may
/// still read or write there, so the place is not filled again before they have left (I5). Runs under the image's metadata mutex.
/// </summary>
public sealed class HiddenClusters
{
    // Beyond it neighbours in time are taken together: that delays more than is needed and forgets nothing.
    private const int RunsMax = 256;

    private readonly ReclaimEpoch _epoch;

    // In ascending epochs.
    private readonly List<Hidden> _runs = [];

    /// <summary>Nothing is hidden at first.</summary>
    public HiddenClusters(ReclaimEpoch epoch)
    {
        _epoch = epoch;
    }

    /// <summary>The tables in memory have just stopped calling data in these clusters data, and kept the place.</summary>
    public void Add(GuestCluster first, long count)
    {
        Forget();
        long epoch = _epoch.Current;
        if (_runs.Count > 0 && _runs[^1] is var last && (_runs.Count == RunsMax || (last.Epoch == epoch && last.Covers(first.Index - 1))))
        {
            _runs[^1] = new Hidden(Math.Min(last.First, first.Index), Math.Max(last.End, first.Index + count), epoch);
        }
        else
        {
            _runs.Add(new Hidden(first.Index, first.Index + count, epoch));
        }

        // Tries to begin the next epoch, so that the leases of later writes do not count among those that are waited for.
        _epoch.HasPassed(epoch);
    }

    /// <summary>Nobody who may have seen data in these clusters that was hidden since is left.</summary>
    public bool AreOutOfSight(GuestCluster first, long count)
    {
        Forget();
        foreach (Hidden run in _runs)
        {
            if (run.First < first.Index + count && first.Index < run.End && !HistoricBug.Is(Bug.I5HiddenReusedInFlight))
            {
                return false;
            }
        }

        return true;
    }

    private void Forget()
    {
        int passed = 0;
        while (passed < _runs.Count && _epoch.HasPassed(_runs[passed].Epoch))
        {
            passed++;
        }

        _runs.RemoveRange(0, passed);
    }

    private readonly record struct Hidden(long First, long End, long Epoch)
    {
        internal bool Covers(long cluster) => First <= cluster && cluster < End;
    }
}
