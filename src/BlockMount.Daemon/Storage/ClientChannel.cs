using System.Net;
using System.Net.Sockets;
using BlockMount.Base;

namespace BlockMount.Daemon.Storage;

/// <summary>A connection that the daemon makes: who listens there is the monitor's only client.</summary>
internal sealed class ClientChannel(string label, EndPoint endPoint) : Channel(label)
{
    private readonly CancellationTokenSource _stopping = new();
    private Socket? _socket;
    private Task _serving = Task.CompletedTask;

    protected override string FileName => $"{(_serving.IsCompleted ? "disconnected:" : "")}{(endPoint is IPEndPoint ? "tcp" : "unix")}:{endPoint}";

    public override async ValueTask OpenAsync(CancellationToken cancel)
    {
        _socket = new Socket(endPoint.AddressFamily, SocketType.Stream, endPoint is IPEndPoint ? ProtocolType.Tcp : ProtocolType.Unspecified);
        try
        {
            await _socket.ConnectAsync(endPoint, cancel);
        }
        catch (SocketException error)
        {
            // The runtime's code for a path that is not there is one of addresses.
            bool isMissing = endPoint is UnixDomainSocketEndPoint && error.SocketErrorCode == SocketError.AddressNotAvailable;
            string reason = ErrnoText.Describe(isMissing ? Errno.ENOENT : (Errno)error.NativeErrorCode);
            throw new BlockMountException($"Failed to connect to '{endPoint}': {reason}", innerException: error);
        }

        _serving = ServeAsync(_socket);
    }

    public override async ValueTask DisposeAsync()
    {
        await _stopping.CancelAsync();
        await _serving;
        _socket?.Dispose();
        _stopping.Dispose();
    }

    private async Task ServeAsync(Socket socket)
    {
        try
        {
            ServeClient serve = await Monitor.WaitAsync(_stopping.Token);
            await using NetworkStream stream = new(socket, ownsSocket: true);
            await serve(stream, _stopping.Token);
        }
        catch (OperationCanceledException)
        {
            // The daemon ends.
        }
    }
}
