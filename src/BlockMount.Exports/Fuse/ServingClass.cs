using System.Diagnostics;
using BlockMount.Base.Interop;

namespace BlockMount.Exports.Fuse;

/// <summary>
/// The scheduling class of a thread that serves requests. SCHED_BATCH does not push aside the client that submits the next request, which is what makes an
/// otherwise idle machine fast; but beside busy programs such a thread waits for the end of their time slices, milliseconds for each request. So the thread
/// looks now and then how long it has waited for a processor, and takes the normal class while that is too long. Used by that thread alone; allocates nothing.
/// </summary>
internal sealed class ServingClass
{
    private const int RequestsPerLook = 64;

    // Waiting for a processor, nanoseconds for each request. Several times of what a saturated, but fair machine comes to.
    private const long DelayMax = 500_000;

    // How long the normal class is kept before the other is tried again; twice as long each time that it was no good.
    private static readonly long s_dwellMin = Stopwatch.Frequency;
    private static readonly long s_dwellMax = Stopwatch.Frequency * 32;

    private readonly Func<long> _runDelay;

    private int _requests;
    private long _delay;
    private long _dwell = s_dwellMin;
    private long _changed;

    /// <param name="runDelay">How long the calling thread has waited for a processor so far, in nanoseconds; what the kernel counts, unless a test says otherwise.</param>
    internal ServingClass(Func<long>? runDelay = null) => _runDelay = runDelay ?? LibcThread.RunDelay;

    /// <summary>The thread is in the normal class, because the machine is busy.</summary>
    internal bool IsNormal { get; private set; }

    /// <summary>Takes charge of the calling thread, also again after somebody else had chosen its class.</summary>
    internal void Begin()
    {
        LibcThread.PreferThroughput();
        IsNormal = false;
        _delay = _runDelay();
        _changed = Stopwatch.GetTimestamp();
    }

    /// <summary>A request was served.</summary>
    internal void Served()
    {
        if (++_requests == RequestsPerLook)
        {
            _requests = 0;
            Look();
        }
    }

    private void Look()
    {
        long before = _delay;
        _delay = _runDelay();
        bool isLong = _delay - before > DelayMax * RequestsPerLook;
        long now = Stopwatch.GetTimestamp();
        if (!IsNormal && isLong)
        {
            // Soon after the last trial: the machine is still as busy.
            _dwell = now - _changed < s_dwellMin ? Math.Min(_dwell * 2, s_dwellMax) : s_dwellMin;
            Change(normal: true, now);
        }
        else if (IsNormal && now - _changed > _dwell)
        {
            Change(normal: false, now);
        }
    }

    private void Change(bool normal, long now)
    {
        IsNormal = normal;
        _changed = now;
        if (normal)
        {
            LibcThread.PreferLatency();
        }
        else
        {
            LibcThread.PreferThroughput();
        }
    }
}
