using BlockMount.Control.Json;
using BlockMount.Control.Schema;

namespace BlockMount.Control.Hmp;

/// <summary>Lines about devices, their snapshots and the daemon's life.</summary>
internal static class HmpNodeCommands
{
    private static readonly HmpParameter s_device = new("device", HmpParameterKind.Device);

    internal static IEnumerable<HmpCommand> Lines(HmpMonitor monitor)
    {
        yield return new HmpCommand(["quit", "q"], "", "end the daemon", [], _ => QuietAsync(monitor, ControlSchema.Quit.Name, new JsonObject()));
        yield return new HmpCommand(
            ["block_resize"], "device size", "change the size of a disk; a bare number counts MiB", [s_device, new HmpParameter("size", HmpParameterKind.Size)],
            arguments => QuietAsync(monitor, NodeSchema.Resize.Name, new JsonObject
            {
                ["device"] = arguments.Text("device")!,
                ["size"] = arguments.Number("size")!.Value,
            }));
        yield return new HmpCommand(
            ["snapshot_blkdev_internal"], "device name", "keep the disk as it is, inside its image", [s_device, new HmpParameter("name", HmpParameterKind.Text)],
            arguments => QuietAsync(monitor, NodeSchema.SnapshotInternal.Name, new JsonObject
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
                if (arguments.Text("id") is { } id)
                {
                    command["id"] = id;
                }

                return QuietAsync(monitor, NodeSchema.SnapshotDeleteInternal.Name, command);
            });
        yield return new HmpCommand(["stop", "s"], "", "freeze the devices", [], _ => QuietAsync(monitor, ControlSchema.Stop.Name, new JsonObject()));
        yield return new HmpCommand(["cont", "c"], "", "thaw the devices", [], _ => QuietAsync(monitor, ControlSchema.Cont.Name, new JsonObject()));
    }

    internal static IEnumerable<HmpCommand> Queries(HmpMonitor monitor)
    {
        yield return new HmpCommand(
            ["block"], "[-n] [device]", "show the devices, or with -n the nodes",
            [HmpParameter.Flag("n"), new HmpParameter("device", HmpParameterKind.Device, Optional: true)],
            arguments => BlockAsync(monitor, arguments.Has("n"), arguments.Text("device")));
        yield return new HmpCommand(["blockstats"], "", "show what was read and written", [], async _ => HmpFormatter.Statistics((JsonList)await monitor.ExecuteAsync(NodeSchema.QueryStatistics.Name)));
        yield return new HmpCommand(["snapshots"], "", "show the snapshots inside the images", [], async _ => HmpFormatter.Snapshots((JsonList)await monitor.ExecuteAsync(NodeSchema.QueryBlock.Name)));
        yield return new HmpCommand(
            ["status"], "", "show whether the devices are frozen", [],
            async _ => $"VM status: {((JsonObject)await monitor.ExecuteAsync(ControlSchema.QueryStatus.Name)).Text("status")}\n");
        yield return new HmpCommand(
            ["version"], "", "show the version", [], async _ => $"{((JsonObject)await monitor.ExecuteAsync(ControlSchema.QueryVersion.Name)).Text("package")}\n");
    }

    private static async ValueTask<string> QuietAsync(HmpMonitor monitor, string command, JsonObject arguments)
    {
        _ = await monitor.ExecuteAsync(command, arguments);
        return "";
    }

    private static async ValueTask<string> BlockAsync(HmpMonitor monitor, bool nodes, string? name)
    {
        string query = nodes ? NodeSchema.QueryNodes.Name : NodeSchema.QueryBlock.Name;
        JsonList all = (JsonList)await monitor.ExecuteAsync(query);
        IEnumerable<JsonObject> entries = all.Cast<JsonObject>().Where(entry =>
            name is null || entry.Text("device") == name || entry.Text("node-name") == name || entry.Object("inserted")?.Text("node-name") == name);
        return string.Join('\n', entries.Select(entry => HmpFormatter.Block(entry.Text("device"), entry.Object("inserted") ?? entry)));
    }
}
