using System.Net;
using System.Net.Sockets;
using BlockMount.Base;
using BlockMount.Block.Devices;
using BlockMount.Block.Nodes;
using BlockMount.Exports.Nbd;
using BlockMount.Formats.Raw;
using BlockMount.TestSupport;
using Microsoft.Extensions.Logging.Abstractions;
using Xunit;
using static BlockMount.Exports.Nbd.Wire.NbdConstants;

namespace BlockMount.Tests.Exports.Nbd;

/// <summary>Listening, socket files, limits and the ways down, over real sockets.</summary>
public sealed class NbdServerTests : IAsyncLifetime, IDisposable
{
    private readonly ScratchFolder _folder = new();
    private readonly BlockDevice _device = NewDevice(readOnly: false);

    private string SocketPath => _folder["nbd.sock"];

    public Task InitializeAsync() => Task.CompletedTask;

    public async Task DisposeAsync() => await _device.DisposeAsync();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task UnixSocket_Started_HasMode0600AndIsRemovedAtTheEnd()
    {
        await using (NbdServer server = await StartUnixAsync())
        {
            Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(SocketPath));
            server.AddExport("disk", _device, writable: true);
            using Socket socket = Connect(server.EndPoint);
            NbdTestClient client = NewClient(socket);
            client.Enter("disk");
            Assert.Equal(0u, client.Call(NBD_CMD_WRITE, 0, 4, 0, [1, 2, 3, 4]).Error);
            Assert.Equal([1, 2, 3, 4], client.Call(NBD_CMD_READ, 0, 4).Data);
        }

        Assert.False(File.Exists(SocketPath));
    }

    [Fact]
    public async Task UnixSocket_OfADeadServer_IsTakenOver()
    {
        using (Socket dead = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified))
        {
            dead.Bind(new UnixDomainSocketEndPoint(_folder["other.sock"]));
            dead.Listen();
            // Renamed, so that the runtime does not find the file when it cleans up.
            File.Move(_folder["other.sock"], SocketPath);
        }

        Assert.True(File.Exists(SocketPath));
        await using NbdServer server = await StartUnixAsync();
        using Socket socket = Connect(server.EndPoint);
        NewClient(socket).Greet();
    }

    [Fact]
    public async Task UnixSocket_OfALivingServer_IsRefusedWithAHintAndLeftAlone()
    {
        await using NbdServer server = await StartUnixAsync();
        BlockMountException error = await Assert.ThrowsAsync<BlockMountException>(async () => await StartUnixAsync());
        Assert.Contains("a server is using this socket", error.Message, StringComparison.Ordinal);
        Assert.NotNull(error.Hint);
        using Socket socket = Connect(server.EndPoint);
        NewClient(socket).Greet();
    }

    [Fact]
    public async Task UnixSocket_PathIsAFile_IsRefusedAndTheFileStays()
    {
        await File.WriteAllTextAsync(SocketPath, "precious");
        BlockMountException error = await Assert.ThrowsAsync<BlockMountException>(async () => await StartUnixAsync());
        Assert.Contains("not a socket", error.Message, StringComparison.Ordinal);
        Assert.Equal("precious", await File.ReadAllTextAsync(SocketPath));
    }

    [Fact]
    public async Task UnixSocket_ReplacedByAnother_IsNotRemovedAtTheEnd()
    {
        NbdServer first = await StartUnixAsync();
        File.Delete(SocketPath);
        await using NbdServer second = await StartUnixAsync();
        await first.DisposeAsync();
        using Socket socket = Connect(second.EndPoint);
        NewClient(socket).Greet();
    }

    [Fact]
    public async Task UnixSocket_ManyServersAtOnceOnAStaleFile_ExactlyOneWins()
    {
        await UnixSocket_OfADeadServer_IsTakenOver();
        Task<NbdServer?>[] attempts = [.. Enumerable.Range(0, 8).Select(_ => Task.Run(async () =>
        {
            try
            {
                return await StartUnixAsync();
            }
            catch (BlockMountException)
            {
                return null;
            }
        }))];
        NbdServer?[] servers = await Task.WhenAll(attempts);
        NbdServer winner = Assert.Single(servers.OfType<NbdServer>());
        await winner.DisposeAsync();
    }

    [Fact]
    public async Task UnixSocket_NoDirectory_NamesIt()
    {
        NbdServerOptions options = new() { EndPoint = new UnixDomainSocketEndPoint(_folder["missing/nbd.sock"]) };
        BlockMountException error = await Assert.ThrowsAsync<BlockMountException>(async () => await NbdServer.StartAsync(options, NullLogger.Instance));
        Assert.Contains("missing", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task TcpPort_Taken_IsRefusedWithAHint()
    {
        await using NbdServer server = await StartTcpAsync();
        int port = ((IPEndPoint)server.EndPoint).Port;
        NbdServerOptions options = new() { EndPoint = new IPEndPoint(IPAddress.Loopback, port) };
        BlockMountException error = await Assert.ThrowsAsync<BlockMountException>(async () => await NbdServer.StartAsync(options, NullLogger.Instance));
        Assert.Contains($"127.0.0.1:{port}", error.Message, StringComparison.Ordinal);
        Assert.Contains("another port", error.Hint, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Uri_TcpAndUnix_AreEscaped()
    {
        await using NbdServer tcp = await StartTcpAsync();
        int port = ((IPEndPoint)tcp.EndPoint).Port;
        Assert.Equal($"nbd://127.0.0.1:{port}/a%20b%2Fc%3F", tcp.UriFor("a b/c?"));
        NbdServerOptions options = new() { EndPoint = new UnixDomainSocketEndPoint(_folder["a b&c.sock"]) };
        await using NbdServer unix = await NbdServer.StartAsync(options, NullLogger.Instance);
        Assert.Equal($"nbd+unix:///disk?socket={_folder.FullPath}/a%20b%26c.sock", unix.UriFor("disk"));
    }

    [Fact]
    public async Task AddExport_NameTakenOrImpossibleOrReadOnlyDevice_IsRefused()
    {
        await using NbdServer server = await StartTcpAsync();
        await using BlockDevice readOnly = NewDevice(readOnly: true);
        await using NbdExport export = server.AddExport("disk", _device, writable: true);
        Assert.Throws<BlockMountException>(() => server.AddExport("disk", _device, writable: true));
        Assert.Throws<BlockMountException>(() => server.AddExport(new string('x', 4097), _device, writable: true));
        Assert.Throws<BlockMountException>(() => server.AddExport("a\0b", _device, writable: true));
        Assert.Throws<BlockMountException>(() => server.AddExport("read-only", readOnly, writable: true));
        Assert.Equal("nbd", export.Kind);
        Assert.EndsWith("/disk", export.Address);
    }

    [Fact]
    public async Task Handshake_NotFinishedInTime_Disconnects()
    {
        NbdServerOptions options = new() { EndPoint = new IPEndPoint(IPAddress.Loopback, 0), HandshakeTimeout = TimeSpan.FromMilliseconds(200) };
        await using NbdServer server = await NbdServer.StartAsync(options, NullLogger.Instance);
        server.AddExport("disk", _device, writable: true);
        using Socket slow = Connect(server.EndPoint);
        using Socket quick = Connect(server.EndPoint);
        NbdTestClient quickClient = NewClient(quick);
        quickClient.Enter("disk");
        NbdTestClient slowClient = NewClient(slow);
        slowClient.Greet();
        Assert.True(slowClient.AtEnd());
        Assert.Equal(0u, quickClient.Call(NBD_CMD_READ, 0, 512).Error);
    }

    [Fact]
    public async Task Connections_AtTheLimit_FurtherOnesAreTurnedAwayUntilOneLeaves()
    {
        NbdServerOptions options = new() { EndPoint = new IPEndPoint(IPAddress.Loopback, 0), ConnectionsMax = 1 };
        await using NbdServer server = await NbdServer.StartAsync(options, NullLogger.Instance);
        server.AddExport("disk", _device, writable: true);
        using (Socket first = Connect(server.EndPoint))
        {
            NbdTestClient client = NewClient(first);
            client.Enter("disk");
            using Socket second = Connect(server.EndPoint);
            Assert.True(NewClient(second).AtEnd());
            Assert.Equal(0u, client.Call(NBD_CMD_READ, 0, 512).Error);
        }

        await EventuallyAsync(() => server.ConnectionCount == 0);
        using Socket third = Connect(server.EndPoint);
        NewClient(third).Enter("disk");
    }

    [Fact]
    public async Task Disposal_ClientsThatDoNotRead_EndsNevertheless()
    {
        NbdServer server = await StartUnixAsync();
        server.AddExport("disk", _device, writable: true);
        using Socket socket = Connect(server.EndPoint);
        NbdTestClient client = NewClient(socket);
        client.Enter("disk");
        for (ulong i = 0; i < 64; i++)
        {
            // 16 MiB of replies that nobody takes.
            client.Send(NbdTestClient.Request(NBD_CMD_READ, i, 0, 256 << 10));
        }

        await server.DisposeAsync().AsTask().WaitAsync(TimeSpan.FromSeconds(20));
        Assert.Equal(0, server.ConnectionCount);
    }

    [Fact]
    public async Task StartStopConnect_RacedAThousandTimes_NothingIsLeftBehind()
    {
        for (int round = 0; round < 1000; round++)
        {
            NbdServer server = await StartUnixAsync();
            server.AddExport("disk", _device, writable: true);
            Task client = Task.Run(() => ConnectAndLeave(round));
            if (round % 3 == 0)
            {
                await Task.Yield();
            }

            if (round % 3 == 1)
            {
                await client;
            }

            await server.DisposeAsync().AsTask().WaitAsync(TimeSpan.FromSeconds(20));
            await client.WaitAsync(TimeSpan.FromSeconds(20));
            Assert.Equal(0, server.ConnectionCount);
            Assert.False(File.Exists(SocketPath));
        }
    }

    private static BlockDevice NewDevice(bool readOnly) =>
        new("drive0", new FormatNode("node0", "disk", new RawDriver(new MemoryFile("disk", readOnly, new byte[1 << 20])), backing: null), readOnly);

    private static Socket Connect(EndPoint endPoint)
    {
        Socket socket = new(endPoint.AddressFamily, SocketType.Stream, ProtocolType.Unspecified) { ReceiveTimeout = 20_000 };
        socket.Connect(endPoint);
        return socket;
    }

    private static NbdTestClient NewClient(Socket socket) => new(bytes => socket.Send(bytes), length =>
    {
        byte[] result = new byte[length];
        for (int done = 0; done < length;)
        {
            int received = socket.Receive(result.AsSpan(done), SocketFlags.None, out SocketError error);
            Assert.NotEqual(SocketError.TimedOut, error);
            if (received == 0 || error != SocketError.Success)
            {
                return null;
            }

            done += received;
        }

        return result;
    });

    private static async Task EventuallyAsync(Func<bool> condition)
    {
        for (int i = 0; i < 1000 && !condition(); i++)
        {
            await Task.Delay(10);
        }

        Assert.True(condition());
    }

    private void ConnectAndLeave(int round)
    {
        try
        {
            using Socket socket = Connect(new UnixDomainSocketEndPoint(SocketPath));
            if (round % 2 == 0)
            {
                NbdTestClient client = NewClient(socket);
                client.Enter("disk");
                client.Call(NBD_CMD_READ, 0, 4096);
            }
        }
        catch (Exception error) when (error is SocketException or EndOfStreamException)
        {
            // The server was faster.
        }
    }

    private async Task<NbdServer> StartUnixAsync() =>
        await NbdServer.StartAsync(new NbdServerOptions { EndPoint = new UnixDomainSocketEndPoint(SocketPath) }, NullLogger.Instance);

    private static async Task<NbdServer> StartTcpAsync() =>
        await NbdServer.StartAsync(new NbdServerOptions { EndPoint = new IPEndPoint(IPAddress.Loopback, 0) }, NullLogger.Instance);
}
