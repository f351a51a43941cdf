using BlockMount.Control.Json;
using BlockMount.Control.Schema;

namespace BlockMount.Control.Hmp;

/// <summary>Lines that swap images, and that add nodes and take them away.</summary>
internal static class HmpMediumCommands
{
    private static readonly string[] s_modes = ["retain", "read-only", "read-write"];

    internal static IEnumerable<HmpCommand> Lines(HmpMonitor monitor)
    {
        // -n is the form of 2011, and says what is the case anyway: nobody is told of it.
        yield return new HmpCommand(
            ["change"], "[-n] device [-f] filename [format [read-only-mode]]", "swap the image behind a device; exports go on",
            [
                HmpParameter.Flag("n"), new HmpParameter("device", HmpParameterKind.Device), HmpParameter.Flag("f"), new HmpParameter("file", HmpParameterKind.FileName),
                new HmpParameter("format", HmpParameterKind.Text, Optional: true), new HmpParameter("mode", HmpParameterKind.Text, Optional: true),
            ],
            arguments => ChangeAsync(monitor, arguments));
        yield return new HmpCommand(
            ["drive_add"], "-n slot options", "open a node, as blockdev-add does; options are key=value,...",
            [HmpParameter.Flag("n"), new HmpParameter("slot", HmpParameterKind.Text), new HmpParameter("options", HmpParameterKind.Text)],
            arguments => AddAsync(monitor, arguments));
        yield return new HmpCommand(
            ["drive_del"], "node", "close a node that was added by itself",
            [new HmpParameter("node", HmpParameterKind.Device)], arguments => DeleteAsync(monitor, arguments.Text("node")!));
    }

    private static ValueTask<string> ChangeAsync(HmpMonitor monitor, HmpArguments arguments)
    {
        JsonObject command = new() { ["device"] = arguments.Text("device")!, ["filename"] = arguments.Text("file")! };
        command.SetOptional("format", arguments.Text("format") is { } format ? JsonValue.FromString(format) : null);
        if (arguments.Text("mode") is { } mode)
        {
            command["read-only-mode"] = s_modes.Contains(mode) ? mode : throw new CommandException($"invalid parameter value: {mode}");
        }

        return monitor.QuietAsync("blockdev-change-medium", command);
    }

    private static ValueTask<string> AddAsync(HmpMonitor monitor, HmpArguments arguments) => arguments.Has("n")
        ? monitor.QuietAsync("blockdev-add", Keyval.ParseAs(CommandSchema.Own.Types["BlockdevOptions"], arguments.Text("options")!, impliedKey: null))
        : throw new CommandException("There are no guest devices to add a drive to; use drive_add -n, or an export");

    private static async ValueTask<string> DeleteAsync(HmpMonitor monitor, string name)
    {
        JsonList nodes = (JsonList)await monitor.ExecuteAsync("query-named-block-nodes", new JsonObject { ["flat"] = true });
        return nodes.Cast<JsonObject>().Any(node => node.Text("node-name") == name)
            ? await monitor.QuietAsync("blockdev-del", new JsonObject { ["node-name"] = name })
            : $"Device '{name}' not found\n";
    }
}
