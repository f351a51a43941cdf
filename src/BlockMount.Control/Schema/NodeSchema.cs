using static BlockMount.Control.Schema.BuiltinType;
using static BlockMount.Control.Schema.Describe;

namespace BlockMount.Control.Schema;

/// <summary>Commands and events about devices and the nodes below them.</summary>
internal static class NodeSchema
{
    private static readonly StructType s_snapshotInfo = Struct(
        "SnapshotInfo",
        Need("id", Text), Need("name", Text), Need("vm-state-size", Integer, "Bytes."), Need("date-sec", Integer), Need("date-nsec", Integer),
        Need("vm-clock-sec", Integer), Need("vm-clock-nsec", Integer), May("icount", Integer));

    private static readonly StructType s_cache = Struct(
        "BlockdevCacheInfo", Need("writeback", Boolean), Need("direct", Boolean), Need("no-flush", Boolean));

    private static readonly StructType s_imageInfo = Struct(
        "ImageInfo",
        Need("filename", Text), Need("format", Text), May("actual-size", Integer, "Bytes on the host."), Need("virtual-size", Integer, "Bytes."),
        May("cluster-size", Integer, "Bytes."), May("backing-filename", Text), May("full-backing-filename", Text), May("backing-filename-format", Text),
        May("snapshots", ListOf(s_snapshotInfo)), May("backing-image", Any, "ImageInfo of the backing file."));

    private static readonly StructType s_nodeInfo = Struct(
        "BlockDeviceInfo",
        Need("file", Text), May("node-name", Text), Need("ro", Boolean), Need("drv", Text), May("backing_file", Text), Need("backing_file_depth", Integer),
        Need("encrypted", Boolean), Need("detect_zeroes", Enum("BlockdevDetectZeroesOptions", "off", "on", "unmap")),
        Need("bps", Integer), Need("bps_rd", Integer), Need("bps_wr", Integer), Need("iops", Integer), Need("iops_rd", Integer), Need("iops_wr", Integer),
        Need("image", s_imageInfo), Need("cache", s_cache), Need("write_threshold", Integer));

    private static readonly StructType s_statistics = Struct(
        "BlockDeviceStats",
        Need("rd_bytes", Integer), Need("wr_bytes", Integer), Need("unmap_bytes", Integer), Need("rd_operations", Integer), Need("wr_operations", Integer),
        Need("flush_operations", Integer), Need("unmap_operations", Integer), Need("failed_rd_operations", Integer), Need("failed_wr_operations", Integer),
        Need("failed_flush_operations", Integer), Need("failed_unmap_operations", Integer));

    internal static readonly CommandDescription QueryBlock = Command(
        "query-block", "The devices: what exports serve, with the active layer behind each.", [],
        ListOf(Struct(
            "BlockInfo",
            Need("device", Text), May("qdev", Text), Need("type", Text, "Always 'unknown', as in QEMU."), Need("removable", Boolean), Need("locked", Boolean),
            May("inserted", s_nodeInfo), May("io-status", Enum("BlockDeviceIoStatus", "ok", "failed", "nospace")))));

    internal static readonly CommandDescription QueryNodes = Command(
        "query-named-block-nodes", "All nodes: the active layers and everything below them.",
        [May("flat", Boolean, "Leave out the images below each node.")], ListOf(s_nodeInfo));

    internal static readonly CommandDescription QueryStatistics = Command(
        "query-blockstats", "What was read and written, by device.",
        [May("query-nodes", Boolean, "Nodes instead of devices.")],
        ListOf(Struct("BlockStats", May("device", Text), May("node-name", Text), Need("stats", s_statistics))));

    internal static readonly CommandDescription Resize = Command(
        "block_resize", "Changes the size of a disk. Exports show the new size as their protocol allows.",
        [May("device", Text), May("node-name", Text), Need("size", Integer, "Bytes.")]);

    internal static readonly CommandDescription SnapshotInternal = Command(
        "blockdev-snapshot-internal-sync", "Keeps the disk as it is under a name, inside its image.",
        [Need("device", Text), Need("name", Text)]);

    internal static readonly CommandDescription SnapshotDeleteInternal = Command(
        "blockdev-snapshot-delete-internal-sync", "Forgets such a snapshot and returns what was known of it. At least one of id and name is given.",
        [Need("device", Text), May("id", Text), May("name", Text)], s_snapshotInfo);

    internal static readonly CommandDescription QueryExports = Command(
        "query-block-exports", "The exports.", [],
        ListOf(Struct(
            "BlockExportInfo",
            Need("id", Text), Need("type", Enum("BlockExportType", "nbd", "fuse")), Need("node-name", Text), Need("shutting-down", Boolean))));
}
