using BlockMount.Base;
using BlockMount.Exports.Fuse.Ring;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.ObjectPool;

namespace BlockMount.Exports.Fuse;

/// <summary>
/// The workers and rings of one mount and their requests. Ends when every one of them has ended and no request waits: after an unmount, after
/// <see cref="StopAsync"/>, or when the last channel broke.
/// </summary>
internal sealed partial class FuseSession
{
    // Between two attempts to wake workers.
    private static readonly TimeSpan s_stopPause = TimeSpan.FromMilliseconds(5);

    private readonly TaskCompletionSource _ended = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly ObjectPool<FuseRequest> _requests;
    private readonly List<IFuseServer> _servers = [];
    private readonly FuseRingSet? _ringSet;
    private readonly ILogger _logger;
    private readonly string _name;

    // Servers that have not ended. Interlocked.
    private int _alive;

    /// <summary>Takes over <paramref name="channels"/>, one for each worker. FUSE_INIT is done already.</summary>
    /// <param name="makeRings">Makes the rings that are to serve most requests, given what each calls when it has ended; null for none.</param>
    internal FuseSession(
        string name, IReadOnlyList<FuseChannel> channels, FuseDispatcher dispatcher, ILogger logger, Func<Action<Exception?>, FuseRingSet>? makeRings = null)
    {
        _name = name;
        _logger = logger;
        // Idle requests that are kept: one for each worker and as many again that wait for the device.
        DefaultObjectPoolProvider provider = new() { MaximumRetained = channels.Count * 2 };
        _requests = provider.Create(new FuseRequest.PoolPolicy());
        for (int i = 0; i < channels.Count; i++)
        {
            _servers.Add(new FuseWorker($"fuse-{i}", channels[i], dispatcher, _requests, ServerEnded));
        }

        if (makeRings is not null)
        {
            _ringSet = makeRings(ServerEnded);
            _servers.AddRange(_ringSet.Rings);
        }

        _alive = _servers.Count;
    }

    /// <summary>The rings that serve most requests; none where everything goes over the channels.</summary>
    internal IReadOnlyList<FuseRing> Rings => _ringSet?.Rings ?? [];

    /// <summary>Completes, always successfully, when the session has ended and all its channels are closed.</summary>
    internal Task Completion => _ended.Task;

    /// <summary>Starts the threads. Returns when the kernel has taken the rings, if there are any.</summary>
    /// <exception cref="BlockIOException">It has refused a ring: stop the session.</exception>
    internal void Start()
    {
        foreach (IFuseServer server in _servers)
        {
            server.Start();
        }

        foreach (FuseRing ring in Rings)
        {
            ring.Registered.GetAwaiter().GetResult();
        }
    }

    /// <summary>Lets the requests that were received end, and all workers with them. Returns when that is done.</summary>
    internal async Task StopAsync()
    {
        while (!Completion.IsCompleted)
        {
            foreach (IFuseServer server in _servers)
            {
                server.Stop();
            }

            await Task.WhenAny(Completion, Task.Delay(s_stopPause));
        }
    }

    private void ServerEnded(Exception? failure)
    {
        if (failure is not null)
        {
            LogWorkerFailed(failure, _name);
        }

        if (Interlocked.Decrement(ref _alive) == 0)
        {
            _ringSet?.Ended();
            (_requests as IDisposable)?.Dispose();
            _ended.SetResult();
        }
    }

    [LoggerMessage(Level = LogLevel.Error, Message = "{Export}: a worker ended because its channel to the kernel failed")]
    private partial void LogWorkerFailed(Exception failure, string export);
}
