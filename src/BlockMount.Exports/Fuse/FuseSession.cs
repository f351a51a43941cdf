using Microsoft.Extensions.Logging;
using Microsoft.Extensions.ObjectPool;

namespace BlockMount.Exports.Fuse;

/// <summary>
/// The workers of one mount and their requests. Ends when every worker has ended and no request waits: after an unmount, after
/// <see cref="StopAsync"/>, or when the last channel broke.
/// </summary>
internal sealed partial class FuseSession
{
    // Between two attempts to wake workers.
    private static readonly TimeSpan s_stopPause = TimeSpan.FromMilliseconds(5);

    private readonly TaskCompletionSource _ended = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly ObjectPool<FuseRequest> _requests;
    private readonly FuseWorker[] _workers;
    private readonly ILogger _logger;
    private readonly string _name;

    // Workers that have not ended. Interlocked.
    private int _alive;

    /// <summary>Takes over <paramref name="channels"/>, one for each worker. FUSE_INIT is done already.</summary>
    internal FuseSession(string name, IReadOnlyList<FuseChannel> channels, FuseDispatcher dispatcher, ILogger logger)
    {
        _name = name;
        _logger = logger;
        // Idle requests that are kept: one for each worker and as many again that wait for the device.
        DefaultObjectPoolProvider provider = new() { MaximumRetained = channels.Count * 2 };
        _requests = provider.Create(new FuseRequest.PoolPolicy());
        _workers = new FuseWorker[channels.Count];
        _alive = channels.Count;
        for (int i = 0; i < _workers.Length; i++)
        {
            _workers[i] = new FuseWorker($"fuse-{i}", channels[i], dispatcher, _requests, WorkerEnded);
        }
    }

    /// <summary>Completes, always successfully, when the session has ended and all its channels are closed.</summary>
    internal Task Completion => _ended.Task;

    /// <summary>Starts the threads.</summary>
    internal void Start()
    {
        foreach (FuseWorker worker in _workers)
        {
            worker.Start();
        }
    }

    /// <summary>Lets the requests that were received end, and all workers with them. Returns when that is done.</summary>
    internal async Task StopAsync()
    {
        while (!Completion.IsCompleted)
        {
            foreach (FuseWorker worker in _workers)
            {
                worker.Stop();
            }

            await Task.WhenAny(Completion, Task.Delay(s_stopPause));
        }
    }

    private void WorkerEnded(FuseWorker worker, Exception? failure)
    {
        if (failure is not null)
        {
            LogWorkerFailed(failure, _name);
        }

        if (Interlocked.Decrement(ref _alive) == 0)
        {
            (_requests as IDisposable)?.Dispose();
            _ended.SetResult();
        }
    }

    [LoggerMessage(Level = LogLevel.Error, Message = "{Export}: a worker ended because its channel to the kernel failed")]
    private partial void LogWorkerFailed(Exception failure, string export);
}
