using BlockMount.Control.Json;

namespace BlockMount.Control.Hmp;

/// <summary>Lines about devices and the daemon's life.</summary>
internal static class HmpNodeCommands
{
    private static readonly HmpParameter s_device = new("device", HmpParameterKind.Device);

    internal static IEnumerable<HmpCommand> Lines(HmpMonitor monitor)
    {
        yield return new HmpCommand(["quit", "q"], "", "end the daemon", [], _ => monitor.QuietAsync("quit"));
        yield return new HmpCommand(
            ["block_resize"], "device size", "change the size of a disk; a bare number counts MiB", [s_device, new HmpParameter("size", HmpParameterKind.Size)],
            arguments => monitor.QuietAsync("block_resize", new JsonObject
            {
                ["device"] = arguments.Text("device")!,
                ["size"] = arguments.Number("size")!.Value,
            }));
        yield return new HmpCommand(
            ["commit"], "device|all", "move what an image holds into the one below it; not there yet", [s_device], arguments => CommitAsync(monitor, arguments.Text("device")!));
        yield return new HmpCommand(["stop", "s"], "", "freeze the devices", [], _ => monitor.QuietAsync("stop"));
        yield return new HmpCommand(["cont", "c"], "", "thaw the devices", [], _ => monitor.QuietAsync("cont"));
    }

    // The name is kept for the job that does it.
    private static async ValueTask<string> CommitAsync(HmpMonitor monitor, string device)
    {
        JsonList devices = (JsonList)await monitor.ExecuteAsync("query-block");
        return device == "all" || devices.Cast<JsonObject>().Any(entry => entry.Text("device") == device)
            ? $"'commit' error for '{device}': Operation not supported\n"
            : $"Device '{device}' not found\n";
    }
}
