using BlockMount.Base.Interop;

namespace BlockMount.Exports.Fuse.Ring;

/// <summary>
/// Frees ring threads that starve because they are confined (<see cref="RingPlacement"/>) while others keep their processor busy: runnable, and hardly any
/// progress for two looks in a row. Sleeps while no thread is confined, and frees those whose clients have gone, so that an idle mount costs nothing. One
/// thread for the rings of a mount.
/// </summary>
internal sealed class RingGuard
{
    private const int LookIntervalMs = 4;

    // Fewer waits than that between two looks are no progress for a thread that has work all the time.
    private const long ProgressMin = 8;
    private const int StrikesMax = 2;
    private const int IdleLooksMax = 50;

    private Watched[] _watched = [];

    // Both guarded by _gate, which is pulsed when one of them changes.
    private readonly object _gate = new();
    private bool _isWanted;
    private bool _stopping;

    internal RingGuard() => MayConfine = Environment.ProcessorCount > 1 && LibcThread.CanLeaveIdleClass();

    /// <summary>Begins to watch these; call it once.</summary>
    internal void Start(IEnumerable<RingPlacement> placements)
    {
        _watched = [.. placements.Select(placement => new Watched(placement))];
        if (MayConfine)
        {
            new Thread(Run) { IsBackground = true, Name = "fuse-ring-guard" }.Start();
        }
    }

    /// <summary>False if nothing may be confined here: nobody could free it again, or there is one processor only.</summary>
    internal bool MayConfine { get; }

    /// <summary>A thread has been confined.</summary>
    internal void Watch()
    {
        lock (_gate)
        {
            _isWanted = true;
            Monitor.Pulse(_gate);
        }
    }

    /// <summary>Lets the guard's thread end.</summary>
    internal void Stop()
    {
        lock (_gate)
        {
            _stopping = true;
            Monitor.Pulse(_gate);
        }
    }

    private void Run()
    {
        while (WaitUntilWanted())
        {
            while (LookAtAll())
            {
                Thread.Sleep(LookIntervalMs);
            }
        }
    }

    // False when the guard is to end.
    private bool WaitUntilWanted()
    {
        lock (_gate)
        {
            while (!_isWanted && !_stopping)
            {
                Monitor.Wait(_gate);
            }

            _isWanted = false;
            return !_stopping;
        }
    }

    // True while there is something to watch.
    private bool LookAtAll()
    {
        bool any = false;
        foreach (Watched watched in _watched)
        {
            any |= watched.Look();
        }

        return any;
    }

    private sealed class Watched(RingPlacement placement)
    {
        private long _progress;
        private int _strikes;
        private int _idleLooks;

        internal bool Look()
        {
            if (!placement.IsConfined)
            {
                _strikes = _idleLooks = 0;
                return false;
            }

            long progress = placement.Progress - _progress;
            _progress += progress;
            bool runnable = progress < ProgressMin && LibcThread.IsRunnable(placement.ThreadId);
            _strikes = runnable ? _strikes + 1 : 0;
            _idleLooks = progress == 0 && !runnable ? _idleLooks + 1 : 0;
            if (_strikes >= StrikesMax)
            {
                placement.Free(penalty: true);
            }
            else if (_idleLooks >= IdleLooksMax)
            {
                placement.Free(penalty: false);
            }

            return true;
        }
    }
}
