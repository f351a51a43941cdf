using System.Net;
using BlockMount.Control;
using Microsoft.Extensions.Logging;

namespace BlockMount.Daemon.Storage;

/// <summary>A listening socket. Several clients may be connected at once, other than at QEMU, where the second one waits for the first to leave.</summary>
internal sealed class SocketChannel : Channel
{
    private readonly EndPoint _endPoint;
    private readonly bool _waits;
    private readonly MonitorServer _server;
    private readonly TaskCompletionSource _firstClient = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private EndPoint? _bound;
    private int _clients;

    /// <param name="waits">Opening it waits for the first client.</param>
    public SocketChannel(string label, EndPoint endPoint, bool waits, ILogger log)
        : base(label)
    {
        _endPoint = endPoint;
        _waits = waits;
        _server = new MonitorServer(ServeAsync, log);
    }

    protected override string FileName =>
        $"{(Volatile.Read(ref _clients) == 0 ? "disconnected:" : "")}{(_endPoint is IPEndPoint ? "tcp" : "unix")}:{_bound ?? _endPoint},server=on";

    public override async ValueTask OpenAsync(CancellationToken cancel)
    {
        _bound = await _server.ListenAsync(_endPoint);
        if (_waits)
        {
            Console.Error.WriteLine($"blockmount: info: waiting for connection on: {FileName}");
            await _firstClient.Task.WaitAsync(cancel);
        }
    }

    public override ValueTask DisposeAsync() => _server.DisposeAsync();

    private async Task ServeAsync(Stream stream, CancellationToken cancel)
    {
        _ = Interlocked.Increment(ref _clients);
        _ = _firstClient.TrySetResult();
        try
        {
            ServeClient serve = await Monitor.WaitAsync(cancel);
            await serve(stream, cancel);
        }
        catch (OperationCanceledException)
        {
            // The daemon ends.
        }
        finally
        {
            _ = Interlocked.Decrement(ref _clients);
        }
    }
}
