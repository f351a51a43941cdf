using System.Diagnostics;
using BlockMount.Base.Interop;

namespace BlockMount.Exports.Fuse.Ring;

/// <summary>
/// Where and with what priority the thread of a ring runs. A client with one request in flight is served fastest on its own processor, by a thread that
/// never pushes it aside (SCHED_IDLE): nobody has to be woken elsewhere. With more requests in flight the thread is better off on any other processor. How many
/// completions each wait brings tells which it is. SCHED_IDLE starves when others keep the processor busy; <see cref="RingGuard"/> watches for that.
/// <para>Threading: <see cref="Attach"/>, <see cref="Observe"/> and <see cref="Detach"/> on the ring's thread, the rest on any.</para>
/// </summary>
internal sealed class RingPlacement
{
    // Waits over which the mean is taken.
    private const int WindowWaits = 64;
    private const double ManyPerWait = 1.5;
    private const double OnePerWait = 1.05;

    // After it was freed the thread stays free for so long, twice as long each time that being confined did not last.
    private static readonly long s_dwellMin = Stopwatch.Frequency / 20;
    private static readonly long s_dwellMax = Stopwatch.Frequency * 2;

    private readonly int _processor;
    private readonly RingGuard _guard;

    // Held for changes of the thread's class and place.
    private readonly Lock _gate = new();
    private int _threadId;
    private bool _isConfined;
    private long _changed;
    private long _dwell = s_dwellMin;

    // The ring's thread alone.
    private readonly ServingClass _class = new();
    private bool _wasConfined;
    private int _waits;
    private long _completions;

    // Written by the ring's thread, read by the guard.
    private long _progress;

    internal RingPlacement(int processor, RingGuard guard)
    {
        _processor = processor;
        _guard = guard;
    }

    /// <summary>The thread runs on the processor of its clients and yields to everybody.</summary>
    internal bool IsConfined => Volatile.Read(ref _isConfined);

    /// <summary>Waits that ended so far.</summary>
    internal long Progress => Volatile.Read(ref _progress);

    /// <summary>Kernel id of the thread; 0 before <see cref="Attach"/>.</summary>
    internal int ThreadId => Volatile.Read(ref _threadId);

    /// <summary>Begins to place the calling thread.</summary>
    internal void Attach()
    {
        _class.Begin();
        Volatile.Write(ref _threadId, LibcThread.gettid());
    }

    /// <summary>The calling thread, which is the one that was attached, is about to end: its id may be somebody else's afterwards.</summary>
    internal void Detach()
    {
        // Also because what it has left to do must not wait for an idle processor.
        Free(penalty: false);
        lock (_gate)
        {
            Volatile.Write(ref _threadId, 0);
        }
    }

    /// <summary>A wait has ended with so many completions.</summary>
    internal void Observe(int completions)
    {
        Volatile.Write(ref _progress, _progress + 1);
        _completions += completions;
        ChooseClass();
        if (++_waits == WindowWaits)
        {
            double mean = (double)_completions / _waits;
            _waits = 0;
            _completions = 0;
            Adapt(mean);
        }
    }

    /// <summary>Gives the thread its normal class and all processors back.</summary>
    /// <param name="penalty">Being confined did not do it good: stay free for longer.</param>
    internal void Free(bool penalty)
    {
        lock (_gate)
        {
            if (_isConfined)
            {
                long now = Stopwatch.GetTimestamp();
                _dwell = penalty ? Math.Min(_dwell * 2, s_dwellMax) : s_dwellMin;
                _changed = now;
                LibcThread.Unconfine(_threadId);
                Volatile.Write(ref _isConfined, false);
            }
        }
    }

    // While it is confined, its class is part of that.
    private void ChooseClass()
    {
        if (IsConfined)
        {
            _wasConfined = true;
        }
        else if (_wasConfined)
        {
            _wasConfined = false;
            _class.Begin();
        }
        else
        {
            _class.Served();
        }
    }

    private void Adapt(double completionsPerWait)
    {
        if (_isConfined)
        {
            if (completionsPerWait > ManyPerWait)
            {
                // Long enough, and it was right at the time.
                Free(penalty: Stopwatch.GetTimestamp() - _changed < s_dwellMax);
            }
        }
        else if (completionsPerWait < OnePerWait && Stopwatch.GetTimestamp() - _changed >= _dwell)
        {
            Confine();
        }
    }

    private void Confine()
    {
        lock (_gate)
        {
            if (_guard.MayConfine && LibcThread.TryConfine(_threadId, _processor))
            {
                _changed = Stopwatch.GetTimestamp();
                Volatile.Write(ref _isConfined, true);
                _guard.Watch();
            }
        }
    }
}
