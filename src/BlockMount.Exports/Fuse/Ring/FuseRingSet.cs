using BlockMount.Base;
using BlockMount.Base.Interop;
using BlockMount.Base.Interop.Uring;

namespace BlockMount.Exports.Fuse.Ring;

/// <summary>
/// Divides the kernel's queues of one mount among rings: one ring for each processor that is online, which takes a share of the queues of those that are not
/// (the kernel uses no queue before every possible processor has one). Owns the descriptor through which they hand over replies: the channels may be closed
/// before the last reply is sent.
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
        if (ring is null)
        {
            return $"io_uring is not available: {ErrnoText.Describe(errno)}";
        }

        try
        {
            _ = ProcessorList.Read("possible");
            _ = ProcessorList.Read("online");
            return null;
        }
        catch (BlockMountException unreadable)
        {
            return unreadable.Message;
        }
    }

    private readonly int _device;
    private readonly RingGuard _guard = new();

    /// <param name="channel">A channel of the mounted /dev/fuse.</param>
    /// <param name="queueShift">Added to the numbers of the queues; 0 except in tests.</param>
    /// <param name="ended">Called once for each ring.</param>
    /// <exception cref="BlockIOException">No descriptors left.</exception>
    internal FuseRingSet(FuseDeviceChannel channel, FuseDispatcher dispatcher, int queueShift, Action<Exception?> ended)
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

        _device = channel.Duplicate();
        FusePoller poller = new();
        Rings = [.. shares.Select((share, i) =>
            new FuseRing(_device, online[i], [.. share.Select(queue => queue + queueShift)], depth, dispatcher, poller, _guard, ended))];
        _guard.Start(Rings.Select(ring => ring.Placement));
    }

    /// <summary>One for each processor; the session starts them.</summary>
    internal IReadOnlyList<FuseRing> Rings { get; }

    /// <summary>To be called once, when all rings have ended.</summary>
    internal void Ended()
    {
        _guard.Stop();
        _ = Libc.close(_device);
    }
}
