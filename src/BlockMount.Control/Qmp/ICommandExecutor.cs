using BlockMount.Base.Async;
using BlockMount.Control.Json;

namespace BlockMount.Control.Qmp;

/// <summary>Where commands run. Supplied by the host, whose control loop also changes the graph; any thread calls it.</summary>
public interface ICommandExecutor
{
    /// <summary>Runs a command after those that were given before it have ended, and before those given later begin.</summary>
    public ValueTask<JsonValue> RunAsync(Func<ValueTask<JsonValue>> command);
}

/// <summary>Runs commands one after the other on the threads that bring them.</summary>
public sealed class SerialExecutor : ICommandExecutor
{
    private readonly AsyncMutex _oneAtATime = new();

    /// <inheritdoc/>
    public async ValueTask<JsonValue> RunAsync(Func<ValueTask<JsonValue>> command)
    {
        using AsyncMutex.Releaser turn = await _oneAtATime.LockAsync();
        return await command();
    }
}
