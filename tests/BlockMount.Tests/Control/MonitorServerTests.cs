using System.Net.Sockets;
using System.Text;
using BlockMount.Control;
using BlockMount.Tests.Control.Qmp;
using BlockMount.TestSupport;
using Microsoft.Extensions.Logging.Abstractions;
using Xunit;

namespace BlockMount.Tests.Control;

/// <summary>Monitors at sockets: many clients that come and go.</summary>
public sealed class MonitorServerTests
{
    [Fact]
    public async Task ClientsThatLeaveInTheMiddleOfAMessageLeaveNothingBehind()
    {
        const int Connections = 1000;
        using ScratchFolder folder = new();
        string path = folder["q"];
        ControlMonitor monitor = new(new FakeHost());
        MonitorServer server = new((stream, cancel) => monitor.RunQmpAsync(stream, cancel), NullLogger.Instance);
        _ = await server.ListenAsync(new UnixDomainSocketEndPoint(path));
        byte[] text = Encoding.UTF8.GetBytes("{'execute':'qmp_capabilities'}{'execute':'query-qmp-schema'}{'execute':'query-version','arguments':{'a':[1,2,");
        // What the runtime opens once for all is open after the first.
        await ComeAndGoAsync(path, text.AsMemory(0, 50));
        await IdleAsync(server);
        int before = OpenFiles();
        for (int i = 0; i < Connections; i++)
        {
            await ComeAndGoAsync(path, text.AsMemory(0, i * 7 % (text.Length + 1)));
        }

        await IdleAsync(server);
        Assert.Equal(0, monitor.Events.ListenerCount);
        // Other tests of this process open and close files of their own meanwhile.
        Assert.InRange(OpenFiles(), 0, before + (Connections / 10));
        Assert.Equal("600", Convert.ToString((int)File.GetUnixFileMode(path), 8));
        await server.DisposeAsync();
        Assert.False(File.Exists(path));
    }

    private static async Task ComeAndGoAsync(string path, ReadOnlyMemory<byte> text)
    {
        using Socket socket = await ConnectAsync(path);
        if (text.Length > 0)
        {
            _ = await socket.SendAsync(text);
        }
    }

    // A Unix socket whose queue is full says so at once, instead of letting the client wait.
    private static async Task<Socket> ConnectAsync(string path)
    {
        for (int attempt = 0; ; attempt++)
        {
            Socket socket = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
            try
            {
                await socket.ConnectAsync(new UnixDomainSocketEndPoint(path));
                return socket;
            }
            catch (SocketException error) when (error.SocketErrorCode == SocketError.WouldBlock && attempt < 1000)
            {
                socket.Dispose();
                await Task.Delay(5);
            }
        }
    }

    // The listener itself is one.
    private static async Task IdleAsync(MonitorServer server)
    {
        for (int i = 0; i < 400 && server.RunningCount > 1; i++)
        {
            await Task.Delay(25);
        }

        Assert.Equal(1, server.RunningCount);
    }

    private static int OpenFiles() => Directory.GetFileSystemEntries("/proc/self/fd").Length;
}
