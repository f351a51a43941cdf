using System.Text;
using BlockMount.Control.Json;

namespace BlockMount.Control.Hmp;

/// <summary>What follows info.</summary>
internal static class HmpQueryCommands
{
    internal static IEnumerable<HmpCommand> Queries(HmpMonitor monitor)
    {
        yield return new HmpCommand(
            ["block"], "[-n] [-v] [device]", "show the devices; -n the nodes; -v with their images",
            [HmpParameter.Flag("n"), HmpParameter.Flag("v"), new HmpParameter("device", HmpParameterKind.Device, Optional: true)],
            arguments => BlockAsync(monitor, arguments.Has("n"), arguments.Has("v"), arguments.Text("device")));
        // Jobs come with the commands that start them.
        yield return new HmpCommand(["block-jobs"], "", "show the progress of jobs", [], _ => new ValueTask<string>("No active jobs\n"));
        yield return new HmpCommand(
            ["blockstats"], "", "show what was read and written", [],
            async _ => HmpFormatter.Statistics((JsonList)await monitor.ExecuteAsync("query-blockstats")));
        yield return new HmpCommand(
            ["snapshots"], "", "show the snapshots inside the images", [],
            async _ => HmpSnapshotText.Of((JsonList)await monitor.ExecuteAsync("query-block")));
        yield return new HmpCommand(
            ["status"], "", "show whether the devices are frozen", [],
            async _ => $"VM status: {((JsonObject)await monitor.ExecuteAsync("query-status")).Text("status")}\n");
        yield return new HmpCommand(
            ["version"], "", "show the version", [], async _ => $"{((JsonObject)await monitor.ExecuteAsync("query-version")).Text("package")}\n");
    }

    // Devices, and then the nodes if they were asked for, or if a name was given that may be one.
    private static async ValueTask<string> BlockAsync(HmpMonitor monitor, bool nodes, bool verbose, string? name)
    {
        StringBuilder text = new();
        if (!nodes)
        {
            foreach (JsonObject device in ((JsonList)await monitor.ExecuteAsync("query-block")).Cast<JsonObject>())
            {
                Append(text, device.Text("device")!, device.Object("inserted")!, device.Text("device") == name || name is null, isDevice: true, verbose);
            }
        }

        if (nodes || name is not null)
        {
            foreach (JsonObject node in ((JsonList)await monitor.ExecuteAsync("query-named-block-nodes")).Cast<JsonObject>())
            {
                Append(text, node.Text("node-name")!, node, node.Text("node-name") == name || name is null, isDevice: false, verbose);
            }
        }

        return text.ToString();
    }

    private static void Append(StringBuilder text, string name, JsonObject inserted, bool wanted, bool isDevice, bool verbose)
    {
        if (wanted)
        {
            _ = text.Append(text.Length > 0 ? "\n" : "").Append(HmpFormatter.Block(isDevice ? name : null, inserted, verbose));
        }
    }
}
