using BlockMount.Control.Commands;
using BlockMount.Control.Hmp;
using BlockMount.Control.Json;
using BlockMount.Control.Qmp;
using BlockMount.Control.Schema;

namespace BlockMount.Control;

/// <summary>
/// The operator's door: all commands of a daemon, for clients of the machine protocol and for people. Any number of clients, any thread; commands are
/// carried out one after the other.
/// </summary>
public sealed class ControlMonitor
{
    private readonly CommandTable _commands;
    private readonly QmpEvents _events = new(CommandSchema.Own);
    private readonly HmpMonitor _lines;
    private readonly string _version;

    /// <summary>Makes the commands for what <paramref name="host"/> has.</summary>
    public ControlMonitor(IMonitorHost host)
    {
        _commands = new CommandTable(CommandSchema.Own, _events);
        _version = host.Version;
        ControlCommands.Register(_commands, _events, host);
        QueryCommands.Register(_commands, host);
        NodeCommands.Register(_commands, host);
        ChangeCommands.Register(_commands, host);
        GraphCommands.Register(_commands, _events, host);
        ObjectStore objects = new();
        ObjectCommands.Register(_commands, host, objects);
        ExportCommands.Register(_commands, _events, host, objects);
        _lines = HmpMonitor.Register(_commands, host);
    }

    /// <summary>The commands.</summary>
    public CommandTable Commands => _commands;

    /// <summary>The events that its clients get.</summary>
    internal QmpEvents Events => _events;

    /// <summary>Tells them that a signal ends the daemon.</summary>
    public void EmitShutdownBySignal() =>
        _events.Emit("SHUTDOWN", new JsonObject { ["guest"] = false, ["reason"] = "host-signal" });

    /// <summary>Serves one client of the machine protocol.</summary>
    /// <param name="stream">To and from the client; still the caller's.</param>
    public Task RunQmpAsync(Stream stream, CancellationToken cancel, bool pretty = false) =>
        new QmpSession(stream, _commands, _events, ControlCommands.Version(_version), pretty).RunAsync(cancel);

    /// <summary>Serves one client of the human monitor.</summary>
    /// <param name="stream">To and from the client; still the caller's.</param>
    public Task RunHmpAsync(Stream stream, CancellationToken cancel) => HmpSession.RunAsync(stream, _commands, _version, cancel);

    /// <summary>Words that could stand where a line of the human monitor ends.</summary>
    public IReadOnlyList<string> CompleteLine(string text) => _lines.Complete(text);
}
