using BlockMount.Base;
using BlockMount.Base.Interop.Uring;

namespace BlockMount.Exports.Fuse.Ring;

/// <summary>
/// Divides the kernel's queues of one mount among rings: one ring for each processor that is online, which takes a share of the queues of those that are not
/// (the kernel uses no queue before every possible processor has one). Ends when the last of them has ended.
/// </summary>
internal sealed class FuseRingSet
{
    // Together the rings hold so many requests of 1 MiB each, untouched pages cost nothing.
    private const int RequestsMax = 128;
    private const int DepthMax = 16;

    /// <summary>Null if rings could serve a mount here; otherwise why not.</summary>
    internal static string? Obstacle()
    {
        using IoUring? ring = FuseRing.TryCreate(2, out Errno errno);
        return ring is null ? $"io_uring is not available: {ErrnoText.Describe(errno)}" : null;
    }

    private readonly RingGuard _guard = new();

    /// <param name="device">A descriptor of the mounted /dev/fuse, which outlives the rings.</param>
    /// <param name="ended">Called once for each ring.</param>
    internal FuseRingSet(int device, FuseDispatcher dispatcher, Action<Exception?> ended)
    {
        int queues = ProcessorList.Read("possible").Count;
        List<int> online = [.. ProcessorList.Read("online").Where(processor => processor < queues)];
        int depth = Math.Clamp(RequestsMax / queues, 1, DepthMax);
        List<int>[] shares = [.. online.Select(processor => new List<int> { processor })];
        int next = 0;
        foreach (int queue in Enumerable.Range(0, queues).Except(online))
        {
            shares[next++ % shares.Length].Add(queue);
        }

        FusePoller poller = new();
        Rings = [.. shares.Select((share, i) => new FuseRing(device, online[i], share, depth, dispatcher, poller, _guard, ended))];
        _guard.Start(Rings.Select(ring => ring.Placement));
    }

    /// <summary>One for each processor; the session starts them.</summary>
    internal IReadOnlyList<FuseRing> Rings { get; }

    /// <summary>To be called when all rings have ended.</summary>
    internal void Ended() => _guard.Stop();
}
