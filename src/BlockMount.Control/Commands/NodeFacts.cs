using BlockMount.Block.Graph;
using BlockMount.Block.Nodes;
using BlockMount.Control.Json;
using BlockMount.Formats.Qcow2.OnDisk;

namespace BlockMount.Control.Commands;

/// <summary>What is known of nodes and snapshots, as the query commands show it (BlockDeviceInfo, ImageInfo, SnapshotInfo).</summary>
internal static class NodeFacts
{
    /// <param name="node">The node.</param>
    /// <param name="below">The images that show through, the next one first; empty to leave them out.</param>
    internal static JsonObject OfNode(NodeReport node, IReadOnlyList<NodeReport> below)
    {
        JsonObject info = new()
        {
            ["iops_rd"] = 0L,
            ["detect_zeroes"] = node.DetectZeroes switch { DetectZeroes.On => "on", DetectZeroes.Unmap => "unmap", _ => "off" },
            ["image"] = OfImages(node, below),
            ["iops_wr"] = 0L,
            ["ro"] = node.ReadOnly,
            ["node-name"] = node.Name,
            ["backing_file_depth"] = (long)below.Count,
            ["drv"] = node.Driver,
            ["iops"] = 0L,
            ["bps_wr"] = 0L,
            ["write_threshold"] = node.WriteThreshold,
        };
        info.SetOptional("backing_file", Text(node.BackingFileName));
        info["encrypted"] = false;
        info["bps"] = 0L;
        info["bps_rd"] = 0L;
        info["cache"] = new JsonObject { ["no-flush"] = node.NoFlush, ["direct"] = node.Direct, ["writeback"] = true };
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

    // From the base up, because an image holds the one below it.
    private static JsonObject OfImages(NodeReport node, IReadOnlyList<NodeReport> below)
    {
        JsonObject? image = null;
        foreach (NodeReport lower in below.Reverse())
        {
            image = OfImage(lower, image);
        }

        return OfImage(node, image);
    }

    private static JsonObject OfImage(NodeReport node, JsonObject? below)
    {
        JsonObject image = new();
        image.SetOptional("backing-image", below);
        image.SetOptional("backing-filename-format", Text(node.Qcow2?.BackingFormat));
        image["virtual-size"] = node.Size;
        image["filename"] = node.FileName;
        image.SetOptional("cluster-size", node.ClusterSize > 1 ? (long)node.ClusterSize : null);
        image["format"] = node.Driver;
        image["actual-size"] = node.AllocatedBytes;
        image.SetOptional("format-specific", node.Qcow2 is { } qcow2 ? OfQcow2(qcow2) : null);
        image.SetOptional("snapshots", node.Snapshots.Count > 0 ? new JsonList(node.Snapshots.Select(OfSnapshot)) : null);
        image.SetOptional("full-backing-filename", Text(node.Qcow2?.BackingFileName is { } stored ? node.BackingFileName ?? stored : null));
        image.SetOptional("backing-filename", Text(node.Qcow2?.BackingFileName));
        image["dirty-flag"] = node.Qcow2?.Dirty == true;
        return image;
    }

    private static JsonObject OfQcow2(Qcow2Report qcow2)
    {
        JsonObject data = new()
        {
            ["compat"] = qcow2.Version == 2 ? "0.10" : "1.1",
            ["compression-type"] = qcow2.CompressionType,
        };
        if (qcow2.Version >= 3)
        {
            data["lazy-refcounts"] = qcow2.LazyRefcounts;
        }

        data["refcount-bits"] = (long)qcow2.RefcountBits;
        if (qcow2.Version >= 3)
        {
            data["corrupt"] = qcow2.Corrupt;
            data["extended-l2"] = qcow2.ExtendedL2;
            data.SetOptional("data-file", Text(qcow2.DataFile));
            data.SetOptional("data-file-raw", qcow2.DataFileRaw is { } raw ? raw : null);
        }

        return new JsonObject { ["type"] = "qcow2", ["data"] = data };
    }

    private static JsonValue? Text(string? text) => text is null ? null : JsonValue.FromString(text);
}
