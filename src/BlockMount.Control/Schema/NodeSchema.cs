using static BlockMount.Control.Schema.BuiltinType;
using static BlockMount.Control.Schema.Describe;

namespace BlockMount.Control.Schema;

/// <summary>Commands and events about devices and the nodes below them.</summary>
internal static class NodeSchema
{
    private static readonly StructType s_snapshotInfo = Struct(
        "SnapshotInfo",
        Need("id", Str), Need("name", Str), Need("vm-state-size", Int, "Bytes."), Need("date-sec", Int), Need("date-nsec", Int),
        Need("vm-clock-sec", Int), Need("vm-clock-nsec", Int), May("icount", Int));

    private static readonly StructType s_cache = Struct(
        "BlockdevCacheInfo", Need("writeback", Bool), Need("direct", Bool), Need("no-flush", Bool));

    private static readonly StructType s_imageInfo = Struct(
        "ImageInfo",
        Need("filename", Str), Need("format", Str), May("actual-size", Int, "Bytes on the host."), Need("virtual-size", Int, "Bytes."),
        May("cluster-size", Int, "Bytes."), May("backing-filename", Str), May("full-backing-filename", Str), May("backing-filename-format", Str),
        May("snapshots", ListOf(s_snapshotInfo)), May("backing-image", Any, "ImageInfo of the backing file."));

    private static readonly StructType s_nodeInfo = Struct(
        "BlockDeviceInfo",
        Need("file", Str), May("node-name", Str), Need("ro", Bool), Need("drv", Str), May("backing_file", Str), Need("backing_file_depth", Int),
        Need("encrypted", Bool), Need("detect_zeroes", Enum("BlockdevDetectZeroesOptions", "off", "on", "unmap")),
        Need("bps", Int), Need("bps_rd", Int), Need("bps_wr", Int), Need("iops", Int), Need("iops_rd", Int), Need("iops_wr", Int),
        Need("image", s_imageInfo), Need("cache", s_cache), Need("write_threshold", Int));

    private static readonly StructType s_statistics = Struct(
        "BlockDeviceStats",
        Need("rd_bytes", Int), Need("wr_bytes", Int), Need("unmap_bytes", Int), Need("rd_operations", Int), Need("wr_operations", Int),
        Need("flush_operations", Int), Need("unmap_operations", Int), Need("failed_rd_operations", Int), Need("failed_wr_operations", Int),
        Need("failed_flush_operations", Int), Need("failed_unmap_operations", Int));

    internal static readonly CommandDescription QueryBlock = Command(
        "query-block", "The devices: what exports serve, with the active layer behind each.", [],
        ListOf(Struct(
            "BlockInfo",
            Need("device", Str), May("qdev", Str), Need("type", Str, "Always 'unknown', as in QEMU."), Need("removable", Bool), Need("locked", Bool),
            May("inserted", s_nodeInfo), May("io-status", Enum("BlockDeviceIoStatus", "ok", "failed", "nospace")))));

    internal static readonly CommandDescription QueryNodes = Command(
        "query-named-block-nodes", "All nodes: the active layers and everything below them.",
        [May("flat", Bool, "Leave out the images below each node.")], ListOf(s_nodeInfo));

    internal static readonly CommandDescription QueryStatistics = Command(
        "query-blockstats", "What was read and written, by device.",
        [May("query-nodes", Bool, "Nodes instead of devices.")],
        ListOf(Struct("BlockStats", May("device", Str), May("node-name", Str), Need("stats", s_statistics))));

    internal static readonly CommandDescription Resize = Command(
        "block_resize", "Changes the size of a disk. Exports show the new size as their protocol allows.",
        [May("device", Str), May("node-name", Str), Need("size", Int, "Bytes.")]);

    internal static readonly CommandDescription SnapshotInternal = Command(
        "blockdev-snapshot-internal-sync", "Keeps the disk as it is under a name, inside its image.",
        [Need("device", Str), Need("name", Str)]);

    internal static readonly CommandDescription SnapshotDeleteInternal = Command(
        "blockdev-snapshot-delete-internal-sync", "Forgets such a snapshot and returns what was known of it. At least one of id and name is given.",
        [Need("device", Str), May("id", Str), May("name", Str)], s_snapshotInfo);
}
