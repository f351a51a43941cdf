using System.Threading.Tasks.Sources;

namespace BlockMount.Base.Async;

/// <summary>
/// A reusable completion: one waiter awaits <see cref="Task"/>, one producer calls <see cref="Complete"/> or
/// <see cref="Fail"/>; after the await the waiter calls <see cref="Reset"/> and may use it again. No allocation per use.
/// <para>Continuations never run on the completing thread's stack: the object queues itself to the thread pool and
/// completes there. ManualResetValueTaskSourceCore could queue the continuation by itself, but wraps it in a new object
/// each time.</para>
/// </summary>
public class PooledCompletion : IValueTaskSource, IThreadPoolWorkItem
{
    // Mutable struct; continuations run inline because Execute is on a pool thread already.
    private ManualResetValueTaskSourceCore<bool> _core;

    // Written by the producer before the object is queued, which publishes it to Execute.
    private Exception? _error;

    /// <summary>The pending operation; await it exactly once between two resets.</summary>
    public ValueTask Task => new(this, _core.Version);

    /// <summary>Ends the wait successfully.</summary>
    public void Complete() => ThreadPool.UnsafeQueueUserWorkItem(this, preferLocal: true);

    /// <summary>Ends the wait with <paramref name="error"/>, which is thrown to the waiter.</summary>
    public void Fail(Exception error)
    {
        _error = error;
        Complete();
    }

    /// <summary>Makes the object ready for its next use. Call only after the await has returned or thrown.</summary>
    public void Reset() => _core.Reset();

    /// <summary>
    /// Called once when the waiter has taken the result. A derived class that lives in a pool resets and returns itself
    /// here, which makes its <see cref="Task"/> usable without a wrapping async method.
    /// </summary>
    protected virtual void OnConsumed()
    {
    }

    void IThreadPoolWorkItem.Execute()
    {
        // The continuation may recycle this object, so nothing may be touched after SetResult or SetException.
        Exception? error = _error;
        if (error is null)
        {
            _core.SetResult(true);
            return;
        }

        _error = null;
        _core.SetException(error);
    }

    void IValueTaskSource.GetResult(short token)
    {
        // A second await fails here, before the object can be recycled twice.
        ObjectDisposedException.ThrowIf(token != _core.Version, this);
        try
        {
            _core.GetResult(token);
        }
        finally
        {
            OnConsumed();
        }
    }

    ValueTaskSourceStatus IValueTaskSource.GetStatus(short token) => _core.GetStatus(token);

    void IValueTaskSource.OnCompleted(Action<object?> continuation, object? state, short token, ValueTaskSourceOnCompletedFlags flags) =>
        _core.OnCompleted(continuation, state, token, flags);
}
