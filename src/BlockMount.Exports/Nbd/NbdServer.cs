using System.Net;
using System.Net.Sockets;
using System.Text;
using BlockMount.Base;
using BlockMount.Block.Devices;
using BlockMount.Exports.Nbd.Wire;
using Microsoft.Extensions.Logging;

namespace BlockMount.Exports.Nbd;

/// <summary>
/// Listens on one address and serves devices under names. Any thread. Owns its exports and connections, not the devices.
/// </summary>
public sealed class NbdServer : IAsyncDisposable
{
    // After a failed accept (no descriptors left) the next attempt waits: the cause does not go away at once.
    private static readonly TimeSpan s_acceptRetryDelay = TimeSpan.FromMilliseconds(100);

    private const int LocalSendBufferBytes = 1 << 20;

    private readonly NbdServerOptions _options;
    private readonly ILogger _logger;
    private readonly SocketListener _listener;
    private readonly NbdExportTable _exports = new();
    private readonly CancellationTokenSource _stopping = new();

    private readonly Lock _gate = new();

    // Guarded by _gate.
    private readonly HashSet<NbdConnection> _connections = [];
    private bool _closed;

    private Task _acceptLoop = Task.CompletedTask;

    private NbdServer(NbdServerOptions options, SocketListener listener, ILogger logger)
    {
        _options = options;
        _listener = listener;
        _logger = logger;
    }

    /// <summary>Where the server listens, with the port that was chosen.</summary>
    public EndPoint EndPoint => _listener.EndPoint;

    /// <summary>Clients connected now, including those in the handshake.</summary>
    public int ConnectionCount
    {
        get
        {
            lock (_gate)
            {
                return _connections.Count;
            }
        }
    }

    /// <summary>Binds and starts to accept clients; exports are added afterwards.</summary>
    /// <exception cref="BlockMountException">The address is taken or cannot be used.</exception>
    public static async ValueTask<NbdServer> StartAsync(NbdServerOptions options, ILogger logger)
    {
        NbdServer server = new(options, await SocketListener.BindAsync(options.EndPoint), logger);
        NbdLog.Listening(logger, server.UriFor(""));
        server._acceptLoop = server.AcceptLoopAsync();
        return server;
    }

    /// <summary>The URI under which clients on this machine reach an export.</summary>
    public string UriFor(string exportName)
    {
        string name = Uri.EscapeDataString(exportName);
        if (EndPoint is not IPEndPoint ip)
        {
            // A slash needs no escape in a query and is easier to read.
            string path = Uri.EscapeDataString(Path.GetFullPath(EndPoint.ToString()!)).Replace("%2F", "/", StringComparison.Ordinal);
            return $"nbd+unix:///{name}?socket={path}";
        }

        IPAddress address = ip.Address.Equals(IPAddress.Any) ? IPAddress.Loopback
            : ip.Address.Equals(IPAddress.IPv6Any) ? IPAddress.IPv6Loopback : ip.Address;
        return $"nbd://{new IPEndPoint(address, ip.Port)}/{name}";
    }

    /// <summary>Serves <paramref name="device"/>, which must outlive the export, as <paramref name="name"/>.</summary>
    /// <param name="description">A line for people, or null.</param>
    /// <exception cref="BlockMountException">The name is taken or not possible, or a writable export of a read-only device is asked for.</exception>
    public NbdExport AddExport(string name, BlockDevice device, bool writable, string? description = null)
    {
        CheckText(name, "name");
        CheckText(description ?? "", "description");
        if (writable && device.ReadOnly)
        {
            throw new BlockMountException($"Could not export '{device.Name}' writable: it is read-only", "Export it read-only, or open the image for writing");
        }

        NbdExport export = new(_exports, name, device, writable, description, UriFor(name), multiConnection: _options.ConnectionsMax != 1);
        lock (_gate)
        {
            ObjectDisposedException.ThrowIf(_closed, this);
            return _exports.TryAdd(export)
                ? export
                : throw new BlockMountException($"Could not export '{device.Name}': there is an NBD export named '{name}' already", "Choose another export name");
        }
    }

    /// <summary>Stops listening, disconnects the clients after their requests in flight, ends the exports, removes the socket's file.</summary>
    public async ValueTask DisposeAsync()
    {
        lock (_gate)
        {
            if (_closed)
            {
                return;
            }

            _closed = true;
        }

        await _stopping.CancelAsync();
        await _acceptLoop;
        _listener.Dispose();
        NbdConnection[] connections;
        lock (_gate)
        {
            connections = [.. _connections];
        }

        await NbdConnection.StopAllAsync(connections);
        foreach (NbdExport export in _exports.ToArray())
        {
            await export.DisposeAsync();
        }

        _stopping.Dispose();
    }

    private static void CheckText(string text, string what)
    {
        if (text.Contains('\0') || Encoding.UTF8.GetByteCount(text) > NbdConstants.StringBytesMax)
        {
            throw new BlockMountException($"An NBD export's {what} is at most {NbdConstants.StringBytesMax} bytes without NUL");
        }
    }

    private async Task AcceptLoopAsync()
    {
        while (!_stopping.IsCancellationRequested)
        {
            try
            {
                Accepted(await _listener.Socket.AcceptAsync(_stopping.Token));
            }
            catch (OperationCanceledException)
            {
                return;
            }
            catch (SocketException error)
            {
                NbdLog.AcceptFailed(_logger, error.Message);
                await Task.WhenAny(Task.Delay(s_acceptRetryDelay, _stopping.Token));
            }
        }
    }

    private void Accepted(Socket socket)
    {
        if (_options.ConnectionsMax > 0 && ConnectionCount >= _options.ConnectionsMax)
        {
            NbdLog.TooManyClients(_logger, _options.ConnectionsMax);
            socket.Dispose();
            return;
        }

        NbdConnection connection = new(
            new SocketTransport(socket), _exports, _options.HandshakeTimeout, Configure(socket), _logger, RemoveConnection);
        lock (_gate)
        {
            _connections.Add(connection);
        }

        connection.Start();
    }

    // Sets what a TCP connection needs and returns a name of the client for the log.
    private static string Configure(Socket socket)
    {
        try
        {
            if (socket.AddressFamily == AddressFamily.Unix)
            {
                // As much as the kernel allows: a large reply then fits without waiting for the client. TCP sizes itself.
                socket.SendBufferSize = LocalSendBufferBytes;
                return "a local client";
            }

            socket.NoDelay = true;
            socket.SetSocketOption(SocketOptionLevel.Socket, SocketOptionName.KeepAlive, true);
            return socket.RemoteEndPoint?.ToString() ?? "a client";
        }
        catch (SocketException)
        {
            // It is gone already, which the handshake will find out.
            return "a client";
        }
    }

    private void RemoveConnection(NbdConnection connection)
    {
        lock (_gate)
        {
            _connections.Remove(connection);
        }
    }
}
