using System.Threading.Channels;

namespace BlockMount.Block.Graph;

/// <summary>
/// The control plane: one reader runs what is posted, one action after the other, to its end. Everything that changes the graph runs here, and shows it by
/// the <see cref="ControlScope"/> that it was given. An action must not post another one and wait for it. Any thread may post.
/// </summary>
public sealed class ControlLoop : IAsyncDisposable
{
    private readonly Channel<Func<ValueTask>> _actions = Channel.CreateUnbounded<Func<ValueTask>>(new UnboundedChannelOptions { SingleReader = true });
    private readonly NodeGraph _graph;
    private readonly Task _running;

    /// <summary>Starts the reader for changes of <paramref name="graph"/>.</summary>
    public ControlLoop(NodeGraph graph)
    {
        _graph = graph;
        _running = Task.Run(RunLoopAsync);
    }

    /// <summary>Runs <paramref name="action"/> when its turn comes; its result, or what it threw, is the caller's.</summary>
    /// <exception cref="ObjectDisposedException">The loop has ended.</exception>
    public Task<T> RunAsync<T>(Func<ControlScope, ValueTask<T>> action)
    {
        TaskCompletionSource<T> done = new(TaskCreationOptions.RunContinuationsAsynchronously);
        bool posted = _actions.Writer.TryWrite(async () =>
        {
            try
            {
                done.SetResult(await action(new ControlScope(_graph)));
            }
            catch (Exception error)
            {
                // Whoever posted the action hears of it; the loop serves the next one.
                done.SetException(error);
            }
        });
        ObjectDisposedException.ThrowIf(!posted, this);
        return done.Task;
    }

    /// <inheritdoc cref="RunAsync{T}"/>
    public Task RunAsync(Func<ControlScope, ValueTask> action) => RunAsync(async scope =>
    {
        await action(scope);
        return true;
    });

    /// <summary>Takes no more actions, and waits for those that were posted.</summary>
    public async ValueTask DisposeAsync()
    {
        _ = _actions.Writer.TryComplete();
        await _running;
    }

    private async Task RunLoopAsync()
    {
        await foreach (Func<ValueTask> action in _actions.Reader.ReadAllAsync())
        {
            await action();
        }
    }
}
