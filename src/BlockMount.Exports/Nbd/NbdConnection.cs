using Microsoft.Extensions.Logging;

namespace BlockMount.Exports.Nbd;

/// <summary>
/// One client: its thread, its handshake deadline, and its way down. Owns the transport. A thread of its own rather than
/// the thread pool, because blocking calls are what makes small requests cheap.
/// </summary>
internal sealed class NbdConnection
{
    // The thread's own frames are shallow; the device below it may be a deep chain.
    private const int StackBytes = 1 << 20;

    // A client that does not take its replies gets so long before it is cut off.
    private static readonly TimeSpan s_stopGrace = TimeSpan.FromSeconds(2);

    private readonly INbdTransport _transport;
    private readonly NbdExportTable _exports;
    private readonly TimeSpan _handshakeTimeout;
    private readonly string _client;
    private readonly ILogger _logger;
    private readonly Action<NbdConnection>? _ended;
    private readonly TaskCompletionSource _completion = new(TaskCreationOptions.RunContinuationsAsynchronously);

    // Written by the connection's thread, read by whoever stops it; _stopping is written before _transmission is read and the
    // other way round, so one of them sees the other.
    private volatile NbdTransmission? _transmission;
    private volatile bool _stopping;

    /// <param name="client">A name of the client for the log.</param>
    /// <param name="ended">Called once on the connection's thread when it has ended, before <see cref="Completion"/> completes.</param>
    public NbdConnection(
        INbdTransport transport, NbdExportTable exports, TimeSpan handshakeTimeout, string client, ILogger logger,
        Action<NbdConnection>? ended = null)
    {
        _transport = transport;
        _exports = exports;
        _handshakeTimeout = handshakeTimeout;
        _client = client;
        _logger = logger;
        _ended = ended;
    }

    /// <summary>Completes when the connection has ended and nothing of it is in flight. Never fails.</summary>
    public Task Completion => _completion.Task;

    /// <summary>Stops connections: lets requests in flight end, then disconnects, by force if a client does not take its replies.</summary>
    public static async ValueTask StopAllAsync(IReadOnlyCollection<NbdConnection> connections)
    {
        foreach (NbdConnection connection in connections)
        {
            connection.Stop();
        }

        Task all = Task.WhenAll(connections.Select(connection => connection.Completion));
        if (await Task.WhenAny(all, Task.Delay(s_stopGrace)) != all)
        {
            foreach (NbdConnection connection in connections)
            {
                connection._transport.Abort();
            }
        }

        await all;
    }

    /// <summary>Starts serving on a thread of its own. Call once.</summary>
    public void Start()
    {
        Thread thread = new(Run, StackBytes) { IsBackground = true, Name = "nbd client" };
        thread.Start();
    }

    /// <summary>Serves on the calling thread until the client is gone or stopped.</summary>
    public void Run()
    {
        NbdLog.Connected(_logger, _client);
        try
        {
            if (Negotiate() is { } session)
            {
                Serve(session);
            }
        }
        catch (NbdProtocolException error)
        {
            NbdLog.ProtocolBroken(_logger, _client, error.Message);
        }
        catch (NbdDisconnectedException)
        {
            // Leaving in the middle is the client's right; the line below tells.
        }
        catch (Exception error)
        {
            // A bug must not take the process, with all its other clients, down.
            NbdLog.ConnectionFailed(_logger, _client, error);
        }
        finally
        {
            _transport.Abort();
            _transport.Dispose();
            NbdLog.Disconnected(_logger, _client);
            _ended?.Invoke(this);
            _completion.SetResult();
        }
    }

    private void Stop()
    {
        _stopping = true;
        _transmission?.Stop();
        _transport.StopReceiving();
    }

    private NbdSession? Negotiate()
    {
        using Timer? deadline = _handshakeTimeout > TimeSpan.Zero
            ? new Timer(AbortHandshake, null, _handshakeTimeout, Timeout.InfiniteTimeSpan)
            : null;
        return new NbdHandshake(_transport, _exports).Run();
    }

    private void AbortHandshake(object? state)
    {
        NbdLog.HandshakeTimedOut(_logger, _client, _handshakeTimeout);
        _transport.Abort();
    }

    private void Serve(NbdSession session)
    {
        if (!session.Export.TryAttach(this))
        {
            return;
        }

        try
        {
            NbdLog.Entered(_logger, _client, session.Export.Name, session.StructuredReplies);
            using NbdTransmission transmission = new(_transport, session, _logger);
            _transmission = transmission;
            if (!_stopping)
            {
                transmission.Run();
            }
        }
        finally
        {
            _transmission = null;
            session.Export.Detach(this);
        }
    }
}
