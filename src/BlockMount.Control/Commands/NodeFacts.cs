using BlockMount.Block.Devices;
using BlockMount.Block.Nodes;
using BlockMount.Control.Json;
using BlockMount.Formats.Qcow2.OnDisk;

namespace BlockMount.Control.Commands;

/// <summary>What is known of nodes, devices and snapshots, as the query commands show it.</summary>
internal static class NodeFacts
{
    internal static async ValueTask<JsonObject> OfNodeAsync(BlockDevice device, Node node, IMonitorHost host, bool withBelow)
    {
        JsonObject info = new()
        {
            ["iops_rd"] = 0L,
            ["detect_zeroes"] = "off",
            ["image"] = await ImageAsync(device, node, withBelow),
            ["iops_wr"] = 0L,
            ["ro"] = node.ReadOnly,
            ["node-name"] = node.Name,
            ["backing_file_depth"] = Depth(node),
            ["drv"] = node.DriverName,
            ["iops"] = 0L,
            ["bps_wr"] = 0L,
            ["write_threshold"] = 0L,
        };
        if (node.Backing is { } backing)
        {
            info["backing_file"] = backing.FileName;
        }

        info["encrypted"] = false;
        info["bps"] = 0L;
        info["bps_rd"] = 0L;
        info["cache"] = new JsonObject { ["no-flush"] = host.CacheMode.NoFlush, ["direct"] = host.CacheMode.Direct, ["writeback"] = true };
        info["file"] = node.FileName;
        return info;
    }

    internal static JsonObject OfSnapshot(SnapshotEntry snapshot)
    {
        const long PerSecond = 1_000_000_000;
        JsonObject info = new()
        {
            ["id"] = snapshot.Id,
            ["name"] = snapshot.Name,
            ["vm-state-size"] = snapshot.VmStateSize,
            ["date-sec"] = snapshot.DateSeconds,
            ["date-nsec"] = snapshot.DateNanoseconds,
            ["vm-clock-sec"] = (long)(snapshot.VmClockNanoseconds / PerSecond),
            ["vm-clock-nsec"] = (long)(snapshot.VmClockNanoseconds % PerSecond),
        };
        info.SetOptional("icount", snapshot.InstructionCount is { } count ? count : null);
        return info;
    }

    internal static JsonObject OfStatistics(DeviceStatistics statistics) => new()
    {
        ["rd_bytes"] = statistics.Reads.Bytes,
        ["wr_bytes"] = statistics.Writes.Bytes + statistics.Zeroes.Bytes,
        ["unmap_bytes"] = statistics.Discards.Bytes,
        ["rd_operations"] = statistics.Reads.Operations,
        ["wr_operations"] = statistics.Writes.Operations + statistics.Zeroes.Operations,
        ["flush_operations"] = statistics.Flushes.Operations,
        ["unmap_operations"] = statistics.Discards.Operations,
        ["failed_rd_operations"] = statistics.Reads.Failures,
        ["failed_wr_operations"] = statistics.Writes.Failures + statistics.Zeroes.Failures,
        ["failed_flush_operations"] = statistics.Flushes.Failures,
        ["failed_unmap_operations"] = statistics.Discards.Failures,
    };

    private static async ValueTask<JsonObject> ImageAsync(BlockDevice device, Node node, bool withBelow)
    {
        JsonObject image = new();
        if (withBelow && node.Backing is { } below)
        {
            image["backing-image"] = await ImageAsync(device, below, withBelow);
        }

        image["virtual-size"] = node.Size;
        image["filename"] = node.FileName;
        if (node.ClusterSize > 1)
        {
            image["cluster-size"] = (long)node.ClusterSize;
        }

        image["format"] = node.DriverName;
        image["actual-size"] = node.AllocatedBytes;
        if (node.Backing is { } backing)
        {
            image["full-backing-filename"] = backing.FileName;
            image["backing-filename"] = backing.FileName;
            image["backing-filename-format"] = backing.DriverName;
        }

        if (node == device.Root && await device.ListSnapshotsAsync() is { Count: > 0 } snapshots)
        {
            image["snapshots"] = new JsonList(snapshots.Select(OfSnapshot));
        }

        return image;
    }

    private static long Depth(Node node)
    {
        long depth = 0;
        for (Node? below = node.Backing; below is not null; below = below.Backing)
        {
            depth++;
        }

        return depth;
    }
}
