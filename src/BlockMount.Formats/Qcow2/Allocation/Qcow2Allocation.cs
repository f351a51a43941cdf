using BlockMount.Base.Async;

namespace BlockMount.Formats.Qcow2.Allocation;

/// <summary>
/// The host place of one allocating write, from its preparation to commit or abandonment: new clusters, or parts of clusters that the guest has
/// already. Holds the lock of its guest clusters. The guest range begins at a subcluster and ends at one, or at the end of the disk.
/// </summary>
internal sealed class Qcow2Allocation : PendingAllocation
{
    /// <param name="run">Host clusters of the whole guest clusters that the range touches.</param>
    /// <param name="guestOffset">Start of the range; inside the first cluster.</param>
    internal Qcow2Allocation(
        Geometry geometry, HostRun run, long guestOffset, long guestLength, bool readsAsZero, bool isFill, RangeLock.Entry guestLock)
    {
        Run = run;
        IsFill = isFill;
        GuestLock = guestLock;
        GuestOffset = guestOffset;
        GuestLength = guestLength;
        FileOffset = geometry.OffsetOf(run.Start) + geometry.OffsetInCluster(guestOffset);
        ReadsAsZero = readsAsZero;
    }

    /// <summary>The host clusters.</summary>
    internal HostRun Run { get; }

    /// <summary>
    /// The guest has the clusters already, and the range holds no data yet: only its subclusters change at the commit, and nothing is freed when the
    /// write is abandoned.
    /// </summary>
    internal bool IsFill { get; }

    /// <summary>Lock of the guest clusters; released by commit or abandonment.</summary>
    internal RangeLock.Entry GuestLock { get; }
}
