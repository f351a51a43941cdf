using BlockMount.Block.Devices;
using BlockMount.Block.Graph;
using BlockMount.Control.Json;
using BlockMount.Storage;

namespace BlockMount.Control.Commands;

/// <summary>Counters as query-blockstats shows them (BlockStats). Requests are counted by devices; of nodes the farthest write is known, and of files what was discarded, as in QEMU.</summary>
internal static class StatisticsFacts
{
    // What this program does not do, or does not count by itself.
    private static readonly string[] s_zero =
    [
        "rd_merged", "wr_merged", "unmap_merged", "invalid_rd_operations", "invalid_wr_operations", "invalid_flush_operations", "invalid_unmap_operations",
    ];

    internal static JsonObject Of(StatisticsReport report)
    {
        JsonObject entry = new();
        entry.SetOptional("device", report.Device is { } device ? JsonValue.FromString(device.Name) : null);
        entry.SetOptional("parent", report.File is { } file ? Of(file) : null);
        entry["stats"] = OfCounters(report.Device?.Statistics ?? new DeviceStatistics(), report.WriteHighestOffset, isDevice: report.Device is not null);
        entry.SetOptional("backing", report.Backing is { } backing ? Of(backing) : null);
        entry["node-name"] = report.NodeName;
        entry.SetOptional("driver-specific", report.Discards is { } discards ? OfFile(report.Driver, discards) : null);
        return entry;
    }

    private static JsonObject OfCounters(DeviceStatistics statistics, long highest, bool isDevice)
    {
        JsonObject stats = new()
        {
            ["rd_bytes"] = statistics.Reads.Bytes,
            ["wr_bytes"] = statistics.Writes.Bytes + statistics.Zeroes.Bytes,
            ["unmap_bytes"] = statistics.Discards.Bytes,
            ["rd_operations"] = statistics.Reads.Operations,
            ["wr_operations"] = statistics.Writes.Operations + statistics.Zeroes.Operations,
            ["flush_operations"] = statistics.Flushes.Operations,
            ["unmap_operations"] = statistics.Discards.Operations,
            ["rd_total_time_ns"] = Nanoseconds(statistics.Reads),
            ["wr_total_time_ns"] = Nanoseconds(statistics.Writes) + Nanoseconds(statistics.Zeroes),
            ["flush_total_time_ns"] = Nanoseconds(statistics.Flushes),
            ["unmap_total_time_ns"] = Nanoseconds(statistics.Discards),
            ["wr_highest_offset"] = highest,
            ["failed_rd_operations"] = statistics.Reads.Failures,
            ["failed_wr_operations"] = statistics.Writes.Failures + statistics.Zeroes.Failures,
            ["failed_flush_operations"] = statistics.Flushes.Failures,
            ["failed_unmap_operations"] = statistics.Discards.Failures,
            ["account_invalid"] = isDevice,
            ["account_failed"] = isDevice,
            ["timed_stats"] = new JsonList(),
        };
        foreach (string name in s_zero)
        {
            stats[name] = 0L;
        }

        return stats;
    }

    private static JsonObject OfFile(string driver, DiscardCounts discards) => new()
    {
        ["driver"] = driver,
        ["discard-nb-ok"] = discards.Done,
        ["discard-nb-failed"] = discards.Failed,
        ["discard-bytes-ok"] = discards.Bytes,
    };

    private static long Nanoseconds(OperationCounter counter) => (long)counter.TotalTime.TotalNanoseconds;
}
