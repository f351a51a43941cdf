using System.Net;
using System.Net.Sockets;
using BlockMount.Block.Devices;
using BlockMount.Block.Graph;
using BlockMount.Control.Commands;
using BlockMount.Control.Qmp;
using BlockMount.Control.Schema;
using BlockMount.Exports;
using BlockMount.Formats;
using BlockMount.TestSupport;
using Microsoft.Extensions.Logging.Abstractions;

namespace BlockMount.Interop.Control;

/// <summary>
/// Our monitor in this process, with every command that is described; one that needs a graph fails once its arguments have been checked. Ended on disposal.
/// </summary>
internal sealed class OwnMonitor : IAsyncDisposable
{
    private readonly Socket _client;
    private readonly Task _session;

    private OwnMonitor(Socket client, Task session)
    {
        _client = client;
        _session = session;
    }

    /// <summary>Starts it; the greeting waits to be read.</summary>
    public static async Task<OwnMonitor> StartAsync()
    {
        using Socket listener = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        listener.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        listener.Listen(1);
        Socket client = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        Task connecting = client.ConnectAsync(listener.LocalEndPoint!);
        Socket server = await listener.AcceptAsync();
        await connecting;
        server.NoDelay = true;
        return new OwnMonitor(client, ServeAsync(server));
    }

    /// <summary>To and from the monitor.</summary>
    public MonitorPeer Peer()
    {
        NetworkStream stream = new(_client, ownsSocket: false);
        return new MonitorPeer(stream, stream);
    }

    public async ValueTask DisposeAsync()
    {
        _client.Dispose();
        await _session.WaitAsync(TimeSpan.FromSeconds(20));
    }

    private static async Task ServeAsync(Socket server)
    {
        using CancellationTokenSource quit = new();
        QmpEvents events = new(CommandSchema.Own);
        CommandTable commands = new(CommandSchema.Own, events);
        ControlCommands.Register(commands, events, new EmptyHost(quit));
        HashSet<string> present = [.. commands.Descriptions.Select(command => command.Name)];
        foreach (string name in CommandSchema.Own.Commands.Keys.Where(name => !present.Contains(name)))
        {
            commands.Register(name, (_, _) => throw new CommandException("there is no graph here"));
        }

        await using NetworkStream stream = new(server, ownsSocket: true);
        await new QmpSession(stream, commands, events, ControlCommands.Version("0"), pretty: false).RunAsync(quit.Token);
    }

    private sealed class EmptyHost(CancellationTokenSource quit) : IMonitorHost
    {
        public IReadOnlyList<BlockDevice> Devices => [];

        public ControlLoop Control { get; } = new(new NodeGraph(new MemoryStorage(), new OpenPolicy()));

        public ExportManager Exports { get; } = new(NullLogger.Instance);

        public string Version => "0";

        public void Quit() => _ = quit.CancelAsync();
    }
}
