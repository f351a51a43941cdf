using System.Net;
using System.Net.Sockets;
using BlockMount.Exports;
using Microsoft.Extensions.Logging;

namespace BlockMount.Control;

/// <summary>
/// Lets clients of a monitor in at sockets, several at once. Owns its listeners and connections. Any thread.
/// </summary>
public sealed partial class MonitorServer : IAsyncDisposable
{
    private static readonly TimeSpan s_acceptRetryDelay = TimeSpan.FromMilliseconds(100);

    private readonly Func<Stream, CancellationToken, Task> _serve;
    private readonly ILogger _log;
    private readonly CancellationTokenSource _stopping = new();
    private readonly Lock _gate = new();

    // Guarded by _gate.
    private readonly List<SocketListener> _listeners = [];
    private readonly HashSet<Task> _running = [];

    /// <param name="serve">Serves one client on a stream, which it does not own, until that client is gone or the token is cancelled.</param>
    public MonitorServer(Func<Stream, CancellationToken, Task> serve, ILogger log)
    {
        _serve = serve;
        _log = log;
    }

    /// <summary>Listeners and clients that have not ended.</summary>
    internal int RunningCount => Running().Length;

    /// <summary>Listens; clients may connect when it returns.</summary>
    /// <returns>The address, with the port that was chosen.</returns>
    /// <exception cref="Base.BlockMountException">The address cannot be used.</exception>
    public async ValueTask<EndPoint> ListenAsync(EndPoint endPoint)
    {
        SocketListener listener = await SocketListener.BindAsync(endPoint);
        lock (_gate)
        {
            _listeners.Add(listener);
        }

        Track(AcceptAsync(listener));
        return listener.EndPoint;
    }

    /// <summary>Stops listening, removes socket files, and ends all clients once their commands have ended.</summary>
    public async ValueTask DisposeAsync()
    {
        await _stopping.CancelAsync();
        SocketListener[] listeners;
        lock (_gate)
        {
            listeners = [.. _listeners];
            _listeners.Clear();
        }

        foreach (SocketListener listener in listeners)
        {
            listener.Dispose();
        }

        // A client may have been let in at the last moment.
        while (Running() is { Length: > 0 } running)
        {
            await Task.WhenAll(running);
        }

        _stopping.Dispose();
    }

    private Task[] Running()
    {
        lock (_gate)
        {
            return [.. _running];
        }
    }

    private void Track(Task task)
    {
        lock (_gate)
        {
            _ = _running.Add(task);
        }

        _ = task.ContinueWith(
            ended =>
            {
                lock (_gate)
                {
                    _ = _running.Remove(ended);
                }
            },
            CancellationToken.None, TaskContinuationOptions.ExecuteSynchronously, TaskScheduler.Default);
    }

    private async Task AcceptAsync(SocketListener listener)
    {
        while (!_stopping.IsCancellationRequested)
        {
            try
            {
                Track(ServeSocketAsync(await listener.Socket.AcceptAsync(_stopping.Token)));
            }
            catch (Exception error) when (error is OperationCanceledException or ObjectDisposedException)
            {
                return;
            }
            catch (SocketException error)
            {
                LogAcceptFailed(error.Message);
                await Task.WhenAny(Task.Delay(s_acceptRetryDelay, _stopping.Token));
            }
        }
    }

    private async Task ServeSocketAsync(Socket socket)
    {
        try
        {
            await using NetworkStream stream = new(socket, ownsSocket: true);
            await _serve(stream, _stopping.Token);
        }
        catch (Exception error)
        {
            // A bug must not take the daemon, with all its exports, down.
            LogClientFailed(error);
        }
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "a monitor client was not accepted: {Reason}")]
    private partial void LogAcceptFailed(string reason);

    [LoggerMessage(Level = LogLevel.Error, Message = "a monitor client's session failed")]
    private partial void LogClientFailed(Exception error);
}
