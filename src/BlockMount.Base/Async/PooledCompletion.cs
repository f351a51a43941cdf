using System.Threading.Tasks.Sources;

namespace BlockMount.Base.Async;

/// <summary>
/// A reusable completion: one waiter awaits <see cref="Task"/>, one producer calls <see cref="Complete"/> or
/// <see cref="Fail"/>; after the await the waiter calls <see cref="Reset"/> and may use it again. No allocation per use.
/// Continuations never run on the completing thread's stack, unless the waiter's SynchronizationContext says so.
/// </summary>
public class PooledCompletion : IValueTaskSource
{
    private ManualResetValueTaskSourceCore<bool> _core = new() { RunContinuationsAsynchronously = true };

    /// <summary>The pending operation; await it exactly once between two resets.</summary>
    public ValueTask Task => new(this, _core.Version);

    /// <summary>Ends the wait successfully.</summary>
    public void Complete() => _core.SetResult(true);

    /// <summary>Ends the wait with <paramref name="error"/>, which is thrown to the waiter.</summary>
    public void Fail(Exception error) => _core.SetException(error);

    /// <summary>Makes the object ready for its next use. Call only after the await has returned or thrown.</summary>
    public void Reset() => _core.Reset();

    void IValueTaskSource.GetResult(short token) => _core.GetResult(token);

    ValueTaskSourceStatus IValueTaskSource.GetStatus(short token) => _core.GetStatus(token);

    void IValueTaskSource.OnCompleted(Action<object?> continuation, object? state, short token, ValueTaskSourceOnCompletedFlags flags) =>
        _core.OnCompleted(continuation, state, token, flags);
}
