using System.Globalization;
using System.Text;
using BlockMount.Control.Json;

namespace BlockMount.Control.Hmp;

/// <summary>Shows results of query commands as QEMU's monitor does. Lines end with \n.</summary>
internal static class HmpFormatter
{
    private static readonly string[] s_statistics =
        ["rd_bytes", "wr_bytes", "rd_operations", "wr_operations", "flush_operations", "unmap_bytes", "unmap_operations"];

    /// <summary>A device, or a node if <paramref name="device"/> is null.</summary>
    internal static string Block(string? device, JsonObject inserted)
    {
        string node = inserted.Text("node-name") ?? "";
        StringBuilder text = new();
        _ = text.Append(device is null ? node : $"{device} ({node})")
            .Append(CultureInfo.InvariantCulture, $": {inserted.Text("file")} ({inserted.Text("drv")}{(inserted.Flag("ro") == true ? ", read-only" : "")})\n");
        JsonObject cache = inserted.Object("cache")!;
        _ = text.Append("    Cache mode:       writeback")
            .Append(cache.Flag("direct") == true ? ", direct" : "").Append(cache.Flag("no-flush") == true ? ", ignore flushes" : "").Append('\n');
        if (inserted.Text("backing_file") is { } backing)
        {
            _ = text.Append(CultureInfo.InvariantCulture, $"    Backing file:     {backing} (chain depth: {inserted.Integer("backing_file_depth")})\n");
        }

        return text.ToString();
    }

    /// <summary>What query-blockstats returns, one device a line.</summary>
    internal static string Statistics(JsonList devices) => string.Concat(devices.Cast<JsonObject>().Select(device =>
    {
        JsonObject statistics = device.Object("stats")!;
        return $"{device.Text("device")}:{string.Concat(s_statistics.Select(name => $" {name}={statistics.Integer(name)}"))}\n";
    }));

    /// <summary>The snapshots of each device that query-block returns.</summary>
    internal static string Snapshots(JsonList devices)
    {
        StringBuilder text = new();
        foreach (JsonObject device in devices.Cast<JsonObject>())
        {
            if (device.Object("inserted")?.Object("image")?.List("snapshots") is not { Count: > 0 } snapshots)
            {
                continue;
            }

            _ = text.Append(CultureInfo.InvariantCulture, $"List of snapshots present on device '{device.Text("device")}':\n")
                .Append(CultureInfo.InvariantCulture, $"{"ID",-10}{"TAG",-17}{"DATE",-20}\n");
            foreach (JsonObject snapshot in snapshots.Cast<JsonObject>())
            {
                string date = DateTimeOffset.FromUnixTimeSeconds(snapshot.Integer("date-sec") ?? 0).ToLocalTime().ToString("yyyy-MM-dd HH:mm:ss", CultureInfo.InvariantCulture);
                _ = text.Append(CultureInfo.InvariantCulture, $"{snapshot.Text("id"),-10}{snapshot.Text("name"),-17}{date,-20}\n");
            }
        }

        return text.Length > 0 ? text.ToString() : "There is no snapshot available.\n";
    }
}
