using BlockMount.Block.Graph;
using BlockMount.Control.Json;
using BlockMount.Control.Qmp;
using BlockMount.Control.Schema;

namespace BlockMount.Control.Commands;

/// <summary>Commands of the monitor itself and of the daemon's life.</summary>
public sealed class ControlCommands
{
    private readonly QmpEvents _events;
    private readonly IMonitorHost _host;

    // Changed by commands only, which run one at a time.
    private bool _stopped;

    private ControlCommands(QmpEvents events, IMonitorHost host)
    {
        _events = events;
        _host = host;
    }

    /// <summary>What query-version returns: clients look at QEMU's version to find out what they may use.</summary>
    public static JsonObject Version(string version) => new()
    {
        ["qemu"] = new JsonObject { ["micro"] = 0L, ["minor"] = 2L, ["major"] = 7L },
        ["package"] = $"BlockMount {version}",
    };

    /// <summary>Adds the commands to the table.</summary>
    public static void Register(CommandTable commands, QmpEvents events, IMonitorHost host)
    {
        ControlCommands control = new(events, host);
        commands.Register("qmp_capabilities", Negotiated);
        commands.Register("query-version", _ => Version(host.Version));
        commands.Register("query-commands", _ => new JsonList(
            commands.Descriptions.Select(command => new JsonObject { ["name"] = command.Name })));
        commands.Register("query-qmp-schema", _ => SchemaInfo.Of(commands.Descriptions, commands.Schema.Events.Values));
        commands.Register("quit", control.Quit);
        commands.Register("query-status", control.QueryStatus);
        commands.Register("stop", control.StopAsync);
        commands.Register("cont", control.Continue);
    }

    // Sessions take this command themselves; here it comes too late.
    private static void Negotiated(JsonObject arguments) => throw new CommandException(
        "Capabilities negotiation is already complete, command ignored", CommandException.CommandNotFound);

    private void Quit(JsonObject arguments)
    {
        _events.Emit("SHUTDOWN", new JsonObject { ["guest"] = false, ["reason"] = "host-qmp-quit" });
        _host.Quit();
    }

    private JsonValue QueryStatus(JsonObject arguments) => new JsonObject
    {
        ["status"] = _stopped ? "paused" : "running",
        ["singlestep"] = false,
        ["running"] = !_stopped,
    };

    private async ValueTask<JsonValue> StopAsync(JsonObject arguments)
    {
        if (!_stopped)
        {
            await NodeOperations.FreezeAsync([.. _host.Devices]);
            _stopped = true;
            _events.Emit("STOP");
        }

        return CommandTable.Nothing;
    }

    private void Continue(JsonObject arguments)
    {
        if (_stopped)
        {
            NodeOperations.Thaw(_host.Devices);
            _stopped = false;
            _events.Emit("RESUME");
        }
    }
}
