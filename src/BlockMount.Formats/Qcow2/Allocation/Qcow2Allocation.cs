using BlockMount.Base.Async;

namespace BlockMount.Formats.Qcow2.Allocation;

/// <summary>Clusters of one allocating write, from its preparation to commit or abandonment. Holds the lock of its guest clusters.</summary>
internal sealed class Qcow2Allocation : PendingAllocation
{
    internal Qcow2Allocation(Geometry geometry, GuestCluster first, HostRun run, bool readsAsZero, bool isReuse, RangeLock.Entry guestLock)
    {
        First = first;
        Run = run;
        IsReuse = isReuse;
        GuestLock = guestLock;
        GuestOffset = geometry.OffsetOf(first);
        GuestLength = run.Count << geometry.ClusterBits;
        FileOffset = geometry.OffsetOf(run.Start);
        ReadsAsZero = readsAsZero;
    }

    /// <summary>First guest cluster; as many follow as the run has.</summary>
    internal GuestCluster First { get; }

    /// <summary>The host clusters.</summary>
    internal HostRun Run { get; }

    /// <summary>The clusters were preallocated behind zero entries: nothing is freed when the write is abandoned.</summary>
    internal bool IsReuse { get; }

    /// <summary>Lock of the guest clusters; released by commit or abandonment.</summary>
    internal RangeLock.Entry GuestLock { get; }
}
