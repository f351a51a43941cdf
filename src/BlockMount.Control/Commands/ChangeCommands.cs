using BlockMount.Block.Devices;
using BlockMount.Block.Graph;
using BlockMount.Control.Json;
using BlockMount.Control.Qmp;
using BlockMount.Control.Schema;

namespace BlockMount.Control.Commands;

/// <summary>Commands that swap the image behind a device; its exports go on. 'change' is the one of 2011 (FEATURES 1.1), 'blockdev-change-medium' that of today.</summary>
public sealed class ChangeCommands
{
    private readonly ControlLoop _control;

    private ChangeCommands(IMonitorHost host) => _control = host.Control;

    /// <summary>Adds the commands to the table.</summary>
    public static void Register(CommandTable commands, IMonitorHost host)
    {
        ChangeCommands changes = new(host);
        commands.Register("change", changes.ChangeAsync);
        commands.Register("blockdev-change-medium", changes.ChangeMediumAsync);
    }

    private ValueTask<JsonValue> ChangeAsync(JsonObject arguments)
    {
        string device = arguments.Text("device")!;
        if (device == "vnc")
        {
            throw new CommandException("There is no VNC server whose password could be changed");
        }

        // Whether a guest is told ('notify') makes no difference: programs that use an export are told of a new size, and of nothing else.
        return arguments.Contains("arg")
            ? throw new CommandException($"Parameter 'arg' does not apply to device '{device}'; use 'format' for the format of the new image")
            : SwapAsync(device, new MediumOptions { FileName = arguments.Text("target")!, Format = arguments.Text("format") });
    }

    private ValueTask<JsonValue> ChangeMediumAsync(JsonObject arguments)
    {
        string? device = arguments.Text("device");
        string? id = arguments.Text("id");
        if (device is null == id is null)
        {
            throw new CommandException(device is null ? "Need exactly one of 'device' and 'id'" : "Cannot specify both device and ID");
        }

        return SwapAsync(device ?? id!, new MediumOptions
        {
            FileName = arguments.Text("filename")!,
            Format = arguments.Text("format"),
            ReadOnly = arguments.Text("read-only-mode") switch { "read-only" => true, "read-write" => false, _ => null },
        });
    }

    private async ValueTask<JsonValue> SwapAsync(string name, MediumOptions medium)
    {
        await _control.RunAsync(scope =>
        {
            BlockDevice device = scope.Graph.TryFindDeviceOf(name) ?? throw new CommandException($"Device '{name}' not found", CommandException.DeviceNotFound);
            return MediumOperations.ChangeAsync(scope, device, medium);
        });
        return CommandTable.Nothing;
    }
}
