using BlockMount.Control;
using BlockMount.Control.Commands;
using BlockMount.Control.Hmp;
using BlockMount.Control.Terminal;
using BlockMount.Daemon.Cli;
using Microsoft.Extensions.Logging;

namespace BlockMount.Daemon.Hosting;

/// <summary>The monitors of one daemon: at sockets, and in the terminal it was started from. Owns their sockets and clients.</summary>
internal sealed class Monitors : IAsyncDisposable
{
    private readonly MountRequest _request;
    private readonly ControlMonitor _monitor;
    private readonly List<MonitorServer> _servers = [];
    private readonly CancellationTokenSource _stopping = new();

    private Monitors(MountRequest request, IMonitorHost host)
    {
        _request = request;
        _monitor = new ControlMonitor(host);
    }

    /// <summary>Listens where the request says so; clients may connect when it returns. Null if it says so nowhere.</summary>
    /// <exception cref="Base.BlockMountException">An address cannot be used; nothing listens.</exception>
    public static async ValueTask<Monitors?> StartAsync(MountRequest request, IMonitorHost host, ILogger log)
    {
        if (request.Qmp is null && request.HumanMonitor is null && !request.MonitorInTerminal)
        {
            return null;
        }

        Monitors monitors = new(request, host);
        try
        {
            if (request.Qmp is not null)
            {
                MonitorServer server = new((stream, cancel) => monitors._monitor.RunQmpAsync(stream, cancel), log);
                monitors._servers.Add(server);
                _ = await server.ListenAsync(request.Qmp);
            }

            if (request.HumanMonitor is not null)
            {
                MonitorServer server = new(monitors._monitor.RunHmpAsync, log);
                monitors._servers.Add(server);
                _ = await server.ListenAsync(request.HumanMonitor);
            }

            return monitors;
        }
        catch
        {
            await monitors.DisposeAsync();
            throw;
        }
    }

    /// <summary>Begins to serve the terminal, if that was asked for.</summary>
    public void ServeTerminal()
    {
        if (!_request.MonitorInTerminal)
        {
            return;
        }

        if (!SystemTerminal.IsUsable)
        {
            _ = ServeStandardStreamsAsync();
            return;
        }

        // Keys are waited for by a thread, which ends with the process.
        new Thread(EditLines) { IsBackground = true, Name = "monitor" }.Start();
    }

    /// <summary>Tells the clients that a signal ends the daemon.</summary>
    public void EmitShutdownBySignal() => _monitor.EmitShutdownBySignal();

    /// <summary>Removes the sockets and ends the clients once their commands have ended.</summary>
    public async ValueTask DisposeAsync()
    {
        await _stopping.CancelAsync();
        foreach (MonitorServer server in _servers)
        {
            await server.DisposeAsync();
        }
    }

    private async Task ServeStandardStreamsAsync()
    {
        await using DuplexStream stream = new(Console.OpenStandardInput(), Console.OpenStandardOutput());
        await _monitor.RunHmpAsync(stream, _stopping.Token);
    }

    private void EditLines()
    {
        try
        {
            EditLinesUntilTheEnd();
        }
        catch (IOException)
        {
            // The terminal is gone; the daemon goes on without it.
        }
    }

    private void EditLinesUntilTheEnd()
    {
        using SystemTerminal terminal = new();
        LineEditor editor = new(terminal, _monitor.CompleteLine);
        terminal.Write(HmpSession.Banner(CommandLine.Version) + "\r\n");
        while (!_stopping.IsCancellationRequested && editor.ReadLine(HmpSession.Prompt) is { } line)
        {
            terminal.Write(HmpSession.RunLineAsync(_monitor.Commands, line).AsTask().GetAwaiter().GetResult().Replace("\n", "\r\n", StringComparison.Ordinal));
        }
    }
}
