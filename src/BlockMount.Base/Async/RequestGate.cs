using System.Diagnostics;

namespace BlockMount.Base.Async;

/// <summary>
/// Counts requests in flight and can be closed: <see cref="TryEnter"/> is one interlocked add, a closed gate makes
/// newcomers wait, and <see cref="CloseAsync"/> returns when everyone inside has left. This is the drained section's lock.
/// </summary>
public sealed class RequestGate
{
    // The sign bit says "closed"; the other bits count the requests inside.
    private const long Closed = long.MinValue;

    private long _state;

    // Replaced by the closer; completed by whoever brings a closed gate's count to zero. Only a hint to look again.
    private TaskCompletionSource _drained = NewSignal();

    // Replaced by the closer before _state turns negative; completed by Open.
    private TaskCompletionSource _reopened = NewSignal();

    /// <summary>Requests inside, for statistics and assertions.</summary>
    public long InFlight => Volatile.Read(ref _state) & long.MaxValue;

    /// <summary>Enters if the gate is open. On true the caller must call <see cref="Exit"/> exactly once.</summary>
    public bool TryEnter()
    {
        if (Interlocked.Increment(ref _state) > 0)
        {
            return true;
        }

        Exit();
        return false;
    }

    /// <summary>Enters, waiting while the gate is closed. The caller must call <see cref="Exit"/> exactly once.</summary>
    public async ValueTask EnterAsync()
    {
        while (!TryEnter())
        {
            await Volatile.Read(ref _reopened).Task;
        }
    }

    /// <summary>Leaves; the last one out of a closed gate wakes whoever closed it.</summary>
    public void Exit()
    {
        long state = Interlocked.Decrement(ref _state);
        Debug.Assert(state != -1);
        if (state == Closed)
        {
            Volatile.Read(ref _drained).TrySetResult();
        }
    }

    /// <summary>Closes the gate and waits until it is empty. Only one closer at a time; pair with <see cref="Open"/>.</summary>
    public async ValueTask CloseAsync()
    {
        Volatile.Write(ref _reopened, NewSignal());
        long before = Interlocked.Or(ref _state, Closed);
        Debug.Assert(before >= 0, "the gate was closed twice");
        while (true)
        {
            // Exchange and not Volatile.Write: the signal must be visible before the count is read, or the last one out
            // could complete the old signal after we have read "one inside".
            TaskCompletionSource signal = NewSignal();
            Interlocked.Exchange(ref _drained, signal);
            if (InFlight == 0)
            {
                return;
            }

            // The signal may be stale: an Exit that emptied the gate in an earlier closed period can be slow to complete
            // it. That is why the count is looked at again.
            await signal.Task;
        }
    }

    /// <summary>Opens a closed gate and lets the waiters in.</summary>
    public void Open()
    {
        // Taken first: once the state is open, the next closer may replace the field.
        TaskCompletionSource reopened = Volatile.Read(ref _reopened);
        Interlocked.And(ref _state, ~Closed);
        reopened.TrySetResult();
    }

    private static TaskCompletionSource NewSignal() => new(TaskCreationOptions.RunContinuationsAsynchronously);
}
