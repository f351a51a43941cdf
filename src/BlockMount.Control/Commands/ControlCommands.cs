using BlockMount.Block.Devices;
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
        commands.Register(ControlSchema.Capabilities, Negotiated);
        commands.Register(ControlSchema.QueryVersion, _ => Version(host.Version));
        commands.Register(ControlSchema.QueryCommands, _ => new JsonList(
            commands.Descriptions.Select(command => new JsonObject { ["name"] = command.Name })));
        commands.Register(ControlSchema.QuerySchema, _ => SchemaInfo.Of(commands.Descriptions, commands.Events));
        commands.Register(ControlSchema.Quit, control.Quit);
        commands.Register(ControlSchema.QueryStatus, control.QueryStatus);
        commands.Register(ControlSchema.Stop, control.StopAsync);
        commands.Register(ControlSchema.Cont, control.Continue);
        commands.Register(ControlSchema.Shutdown);
        commands.Register(ControlSchema.Stopped);
        commands.Register(ControlSchema.Resumed);
    }

    // Sessions take this command themselves; here it comes too late.
    private static void Negotiated(JsonObject arguments) => throw new CommandException(
        "Capabilities negotiation is already complete, command ignored", CommandException.CommandNotFound);

    private void Quit(JsonObject arguments)
    {
        _events.Emit(ControlSchema.Shutdown.Name, new JsonObject { ["guest"] = false, ["reason"] = "host-qmp-quit" });
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
            await FreezeAllAsync();
            _stopped = true;
            _events.Emit(ControlSchema.Stopped.Name);
        }

        return CommandTable.Nothing;
    }

    private async ValueTask FreezeAllAsync()
    {
        try
        {
            foreach (BlockDevice device in _host.Devices)
            {
                await device.FreezeAsync();
            }
        }
        catch
        {
            // All or none: 'cont' does nothing where 'stop' has failed.
            ThawAll();
            throw;
        }
    }

    private void ThawAll()
    {
        foreach (BlockDevice device in _host.Devices)
        {
            device.Thaw();
        }
    }

    private void Continue(JsonObject arguments)
    {
        if (_stopped)
        {
            ThawAll();
            _stopped = false;
            _events.Emit(ControlSchema.Resumed.Name);
        }
    }
}
