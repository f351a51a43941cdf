using System.Net.Sockets;
using System.Text;
using BlockMount.Base;
using BlockMount.Control.Json;

namespace BlockMount.Tests.Control.Qmp;

/// <summary>The client's end of a session: a connected socket, and the messages that came out of it.</summary>
internal sealed class QmpPeer : IDisposable
{
    private static readonly TimeSpan s_limit = TimeSpan.FromSeconds(20);

    private readonly Socket _client;
    private readonly Queue<JsonObject> _received = new();
    private readonly JsonReader _reader;

    private QmpPeer(Socket client, Stream server)
    {
        _client = client;
        Server = server;
        _reader = new JsonReader((value, error) => _received.Enqueue(value as JsonObject ?? throw new InvalidOperationException(error)));
    }

    /// <summary>The other end.</summary>
    public Stream Server { get; }

    public static async Task<QmpPeer> ConnectAsync()
    {
        using Socket listener = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        listener.Bind(new System.Net.IPEndPoint(System.Net.IPAddress.Loopback, 0));
        listener.Listen(1);
        Socket client = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        Task connecting = client.ConnectAsync(listener.LocalEndPoint!);
        Socket server = await listener.AcceptAsync();
        await connecting;
        server.NoDelay = true;
        return new QmpPeer(client, new NetworkStream(server, ownsSocket: true));
    }

    public void Send(string text) => _client.Send(Encoding.UTF8.GetBytes(text));

    public async Task SendAsync(ReadOnlyMemory<byte> bytes)
    {
        while (!bytes.IsEmpty)
        {
            bytes = bytes[await _client.SendAsync(bytes)..];
        }
    }

    public void CloseSending() => _client.Shutdown(SocketShutdown.Send);

    /// <summary>The next message; null at the end of the stream.</summary>
    public async Task<JsonObject?> ReceiveAsync()
    {
        byte[] buffer = new byte[64 << 10];
        while (_received.Count == 0)
        {
            using CancellationTokenSource limit = new(s_limit);
            int count = await _client.ReceiveAsync(buffer, SocketFlags.None, limit.Token);
            if (count == 0)
            {
                return null;
            }

            _reader.Feed(buffer.AsSpan(0, count));
        }

        return _received.Dequeue();
    }

    /// <summary>Sends a message and returns the next one that comes.</summary>
    public async Task<string> AskAsync(string text)
    {
        Send(text);
        return (await ReceiveAsync())?.ToString() ?? throw new BlockMountException("the session has ended");
    }

    public void Dispose()
    {
        _client.Dispose();
        Server.Dispose();
    }
}
