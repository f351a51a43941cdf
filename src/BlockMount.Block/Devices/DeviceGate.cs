using BlockMount.Base.Async;

namespace BlockMount.Block.Devices;

/// <summary>
/// The door of one device. Every request comes in with one interlocked add. A drain shuts it for all and waits until nobody is inside; a freeze keeps out those that
/// would change the disk, for as long as it lasts. Any thread; one drain and one change of the freeze at a time, which the callers see to.
/// </summary>
internal sealed class DeviceGate
{
    private readonly RequestGate _gate = new();

    // Set while writes are frozen; completed when they may go on. Looked at inside the gate, so that a freeze that drains after it is set meets nobody who has not seen it.
    private volatile TaskCompletionSource? _thawed;

    /// <summary>Requests inside.</summary>
    internal long InFlight => _gate.InFlight;

    /// <summary>True while writes wait.</summary>
    internal bool IsFrozen => _thawed is not null;

    /// <summary>Comes in if the door is open. On true the caller must call <see cref="Exit"/> once.</summary>
    internal bool TryEnter() => _gate.TryEnter();

    /// <summary>Comes in, waiting as long as the door is shut.</summary>
    internal ValueTask EnterAsync() => _gate.EnterAsync();

    /// <summary>As <see cref="TryEnter"/>, for requests that change the disk.</summary>
    internal bool TryEnterToWrite()
    {
        if (!_gate.TryEnter())
        {
            return false;
        }

        if (_thawed is null)
        {
            return true;
        }

        _gate.Exit();
        return false;
    }

    /// <summary>As <see cref="EnterAsync"/>, for requests that change the disk.</summary>
    internal async ValueTask EnterToWriteAsync()
    {
        while (true)
        {
            await _gate.EnterAsync();
            if (_thawed is not { } thawed)
            {
                return;
            }

            _gate.Exit();
            await thawed.Task;
        }
    }

    /// <summary>Goes out.</summary>
    internal void Exit() => _gate.Exit();

    /// <summary>Shuts the door at once; the task completes when nobody is inside.</summary>
    internal ValueTask CloseAsync() => _gate.CloseAsync();

    /// <summary>Opens the door again.</summary>
    internal void Open() => _gate.Open();

    /// <summary>Writes wait from now on; those inside still run, until a drain has waited for them.</summary>
    internal void Freeze() => _thawed ??= new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);

    /// <summary>Writes go on.</summary>
    internal void Thaw()
    {
        TaskCompletionSource? thawed = _thawed;
        _thawed = null;
        thawed?.SetResult();
    }
}
