using BlockMount.Control.Json;
using BlockMount.Control.Schema;

namespace BlockMount.Control.Hmp;

/// <summary>Lines that keep a disk as it is: in the image below a new one, or inside the image.</summary>
internal static class HmpSnapshotCommands
{
    private static readonly HmpParameter s_device = new("device", HmpParameterKind.Device);

    internal static IEnumerable<HmpCommand> Lines(HmpMonitor monitor)
    {
        yield return new HmpCommand(
            ["snapshot_blkdev"], "[-n] device new-image-file [format]", "go on in a new image on top of this one; -n: the file is there already",
            [
                HmpParameter.Flag("n"), s_device, new HmpParameter("file", HmpParameterKind.FileName, Optional: true),
                new HmpParameter("format", HmpParameterKind.Text, Optional: true),
            ],
            arguments => OnTopAsync(monitor, arguments));
        yield return new HmpCommand(
            ["snapshot_blkdev_internal"], "device name", "keep the disk as it is, inside its image", [s_device, new HmpParameter("name", HmpParameterKind.Text)],
            arguments => monitor.QuietAsync("blockdev-snapshot-internal-sync", new JsonObject
            {
                ["device"] = arguments.Text("device")!,
                ["name"] = arguments.Text("name")!,
            }));
        yield return new HmpCommand(
            ["snapshot_delete_blkdev_internal"], "device name [id]", "forget such a snapshot",
            [s_device, new HmpParameter("name", HmpParameterKind.Text), new HmpParameter("id", HmpParameterKind.Text, Optional: true)],
            arguments =>
            {
                JsonObject command = new() { ["device"] = arguments.Text("device")!, ["name"] = arguments.Text("name")! };
                command.SetOptional("id", arguments.Text("id") is { } id ? new JsonString(id) : null);
                return monitor.QuietAsync("blockdev-snapshot-delete-internal-sync", command);
            });
    }

    private static ValueTask<string> OnTopAsync(HmpMonitor monitor, HmpArguments arguments) => monitor.QuietAsync("blockdev-snapshot-sync", new JsonObject
    {
        ["device"] = arguments.Text("device")!,
        ["snapshot-file"] = arguments.Text("file") ?? throw new CommandException("Parameter 'snapshot-file' is missing"),
        ["format"] = arguments.Text("format") ?? "qcow2",
        ["mode"] = arguments.Has("n") ? "existing" : "absolute-paths",
    });
}
