namespace BlockMount.Base.Async;

/// <summary>
/// A fair mutex whose holder may await. Uncontended lock and unlock allocate nothing. Not re-entrant.
/// Use: <c>using AsyncMutex.Releaser held = await mutex.LockAsync();</c>
/// </summary>
public sealed class AsyncMutex
{
    private readonly Lock _gate = new();

    // Guarded by _gate.
    private readonly Queue<TaskCompletionSource> _waiters = new();
    private bool _held;

    /// <summary>True while somebody holds the mutex; for assertions only.</summary>
    public bool IsHeld => Volatile.Read(ref _held);

    /// <summary>Waits for the mutex; waiters are served in the order of their calls.</summary>
    public ValueTask<Releaser> LockAsync()
    {
        TaskCompletionSource waiter;
        lock (_gate)
        {
            if (!_held)
            {
                _held = true;
                return new ValueTask<Releaser>(new Releaser(this));
            }

            waiter = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            _waiters.Enqueue(waiter);
        }

        return WaitAsync(waiter);
    }

    private async ValueTask<Releaser> WaitAsync(TaskCompletionSource waiter)
    {
        await waiter.Task;
        return new Releaser(this);
    }

    private void Unlock()
    {
        TaskCompletionSource? next;
        lock (_gate)
        {
            if (!_waiters.TryDequeue(out next))
            {
                _held = false;
            }
        }

        next?.SetResult();
    }

    /// <summary>Unlocks on disposal. Dispose it exactly once.</summary>
    public readonly struct Releaser : IDisposable
    {
        private readonly AsyncMutex _mutex;

        internal Releaser(AsyncMutex mutex) => _mutex = mutex;

        /// <summary>Hands the mutex to the next waiter.</summary>
        public void Dispose() => _mutex.Unlock();
    }
}
