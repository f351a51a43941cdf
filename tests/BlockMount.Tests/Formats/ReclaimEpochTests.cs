using BlockMount.Formats;
using Xunit;

namespace BlockMount.Tests.Formats;

/// <summary>What was unlinked is out of sight when, and only when, every lease that began before has ended (I5).</summary>
public sealed class ReclaimEpochTests
{
    [Fact]
    public void HasPassed_NobodyInside_IsTrueAtOnce()
    {
        ReclaimEpoch epoch = new();
        Assert.True(epoch.HasPassed(epoch.Current));
    }

    [Fact]
    public void HasPassed_LeaseFromBefore_IsFalseUntilItEnds()
    {
        ReclaimEpoch epoch = new();
        MapLease old = epoch.Enter();
        long unlinkedIn = epoch.Current;
        Assert.False(epoch.HasPassed(unlinkedIn));
        old.Dispose();
        Assert.True(epoch.HasPassed(unlinkedIn));
    }

    [Fact]
    public void HasPassed_LeasesOverlapForEver_StillBecomesTrue()
    {
        ReclaimEpoch epoch = new();
        MapLease current = epoch.Enter();
        long unlinkedIn = epoch.Current;
        bool passed = false;
        for (int i = 0; i < 4 && !passed; i++)
        {
            // There is a lease at every moment, but none that began before the unlinking for ever.
            _ = epoch.HasPassed(unlinkedIn);
            MapLease next = epoch.Enter();
            current.Dispose();
            current = next;
            passed = epoch.HasPassed(unlinkedIn);
        }

        current.Dispose();
        Assert.True(passed);
    }

    [Fact]
    public async Task HasPassed_ManyThreads_NeverTrueWhileAnOldLeaseIsHeld()
    {
        // Readers note which generation of a value they saw; the writer unlinks a generation and waits for its epoch to pass.
        ReclaimEpoch epoch = new();
        long generation = 0;
        long reclaimed = -1;
        bool stop = false;
        long violations = 0;
        Task[] readers = [.. Enumerable.Range(0, 3).Select(_ => Task.Run(() =>
        {
            while (!Volatile.Read(ref stop))
            {
                using MapLease lease = epoch.Enter();
                long seen = Volatile.Read(ref generation);
                Thread.SpinWait(20);
                if (Volatile.Read(ref reclaimed) >= seen)
                {
                    Interlocked.Increment(ref violations);
                }
            }
        }))];
        for (int i = 0; i < 20_000; i++)
        {
            long old = generation;
            Volatile.Write(ref generation, old + 1);
            long unlinkedIn = epoch.Current;
            if (SpinWait.SpinUntil(() => epoch.HasPassed(unlinkedIn), TimeSpan.FromSeconds(5)))
            {
                Volatile.Write(ref reclaimed, old);
            }
        }

        Volatile.Write(ref stop, true);
        await Task.WhenAll(readers);
        Assert.Equal(0, violations);
        Assert.True(reclaimed > 0);
    }
}
