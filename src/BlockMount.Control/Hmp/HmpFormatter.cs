using System.Globalization;
using System.Text;
using BlockMount.Control.Json;

namespace BlockMount.Control.Hmp;

/// <summary>Shows results of query commands as QEMU's monitor does. Lines end with \n.</summary>
internal static class HmpFormatter
{
    private static readonly string[] s_statistics =
    [
        "rd_bytes", "wr_bytes", "rd_operations", "wr_operations", "flush_operations", "wr_total_time_ns", "rd_total_time_ns", "flush_total_time_ns", "rd_merged",
        "wr_merged", "idle_time_ns",
    ];

    /// <summary>A device, or a node if <paramref name="device"/> is null.</summary>
    /// <param name="inserted">What the device shows, or the node.</param>
    /// <param name="verbose">With all images of the chain.</param>
    internal static string Block(string? device, JsonObject inserted, bool verbose)
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

        if (inserted.Text("detect_zeroes") is { } detecting and not "off")
        {
            _ = text.Append(CultureInfo.InvariantCulture, $"    Detect zeroes:    {detecting}\n");
        }

        if (verbose)
        {
            _ = text.Append("\nImages:\n");
            for (JsonObject? image = inserted.Object("image"); image is not null; image = image.Object("backing-image"))
            {
                _ = text.Append(HmpImageText.Of(image));
            }
        }

        return text.ToString();
    }

    /// <summary>What query-blockstats returns, one device a line.</summary>
    internal static string Statistics(JsonList devices) => string.Concat(devices.Cast<JsonObject>().Select(device =>
    {
        JsonObject statistics = device.Object("stats")!;
        return $"{device.Text("device")}:{string.Concat(s_statistics.Select(name => $" {name}={statistics.Integer(name) ?? 0}"))}\n";
    }));
}
