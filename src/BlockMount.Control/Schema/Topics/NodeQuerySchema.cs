namespace BlockMount.Control.Schema;

/// <summary>Commands that show nodes and devices.</summary>
internal static class NodeQuerySchema
{
    internal const string Text = """
        struct SnapshotInfo
          id: str
          name: str
          vm-state-size: int | Bytes.
          date-sec: int | Seconds since 1970.
          date-nsec: int
          vm-clock-sec: int
          vm-clock-nsec: int
          *icount: int

        enum ImageInfoSpecificKind: qcow2

        enum Qcow2CompressionType: zlib zstd
        enum Qcow2BitmapInfoFlags: in-use auto

        struct Qcow2BitmapInfo
          name: str
          granularity: uint32 | Bytes.
          flags: [Qcow2BitmapInfoFlags]

        struct ImageInfoSpecificQCow2
          compat: str
          *data-file: str
          *data-file-raw: bool
          *extended-l2: bool
          *lazy-refcounts: bool
          *corrupt: bool
          refcount-bits: int
          *bitmaps: [Qcow2BitmapInfo]
          compression-type: Qcow2CompressionType

        struct ImageInfoSpecificQCow2Wrapper
          data: ImageInfoSpecificQCow2

        union ImageInfoSpecific on type
          type: ImageInfoSpecificKind
          when qcow2: ImageInfoSpecificQCow2Wrapper

        struct ImageInfo
          filename: str
          format: str
          *dirty-flag: bool
          *actual-size: int | Bytes on the host.
          virtual-size: int | Bytes.
          *cluster-size: int | Bytes.
          *encrypted: bool
          *compressed: bool
          *backing-filename: str | As the header has it.
          *full-backing-filename: str
          *backing-filename-format: str
          *snapshots: [SnapshotInfo]
          *backing-image: ImageInfo
          *format-specific: ImageInfoSpecific

        struct BlockdevCacheInfo
          writeback: bool
          direct: bool
          no-flush: bool

        struct BlockDirtyInfo
          *name: str
          count: int | Bytes that are dirty.
          granularity: uint32 | Bytes.
          recording: bool
          busy: bool
          persistent: bool
          *inconsistent: bool

        struct BlockDeviceInfo
          file: str
          *node-name: str
          ro: bool
          drv: str
          *backing_file: str
          backing_file_depth: int
          encrypted: bool
          detect_zeroes: BlockdevDetectZeroesOptions
          bps: int
          bps_rd: int
          bps_wr: int
          iops: int
          iops_rd: int
          iops_wr: int
          image: ImageInfo
          *bps_max: int
          *bps_rd_max: int
          *bps_wr_max: int
          *iops_max: int
          *iops_rd_max: int
          *iops_wr_max: int
          *bps_max_length: int
          *bps_rd_max_length: int
          *bps_wr_max_length: int
          *iops_max_length: int
          *iops_rd_max_length: int
          *iops_wr_max_length: int
          *iops_size: int
          *group: str
          cache: BlockdevCacheInfo
          write_threshold: int | Bytes; 0: none.
          *dirty-bitmaps: [BlockDirtyInfo]

        command query-named-block-nodes
          | All nodes: the active layers and everything below them.
          *flat: bool | Leave out the images below each node. Off by default.
          returns [BlockDeviceInfo]

        enum BlockDeviceIoStatus: ok failed nospace

        struct BlockInfo
          device: str | Name of the device: of a mount or an export.
          *qdev: str
          type: str | Always 'unknown', as in QEMU.
          removable: bool
          locked: bool
          *inserted: BlockDeviceInfo | The active layer.
          *tray_open: bool
          *io-status: BlockDeviceIoStatus

        command query-block
          | The devices: what exports serve, with the active layer behind each.
          returns [BlockInfo]

        struct BlockDeviceTimedStats
          interval_length: int | Seconds.
          min_rd_latency_ns: int
          max_rd_latency_ns: int
          avg_rd_latency_ns: int
          min_wr_latency_ns: int
          max_wr_latency_ns: int
          avg_wr_latency_ns: int
          min_flush_latency_ns: int
          max_flush_latency_ns: int
          avg_flush_latency_ns: int
          avg_rd_queue_depth: number
          avg_wr_queue_depth: number

        struct BlockLatencyHistogramInfo
          boundaries: [uint64]
          bins: [uint64]

        struct BlockDeviceStats
          rd_bytes: int
          wr_bytes: int
          unmap_bytes: int
          rd_operations: int
          wr_operations: int
          flush_operations: int
          unmap_operations: int
          rd_total_time_ns: int
          wr_total_time_ns: int
          flush_total_time_ns: int
          unmap_total_time_ns: int
          wr_highest_offset: int
          rd_merged: int
          wr_merged: int
          unmap_merged: int
          *idle_time_ns: int
          failed_rd_operations: int
          failed_wr_operations: int
          failed_flush_operations: int
          failed_unmap_operations: int
          invalid_rd_operations: int
          invalid_wr_operations: int
          invalid_flush_operations: int
          invalid_unmap_operations: int
          account_invalid: bool
          account_failed: bool
          timed_stats: [BlockDeviceTimedStats]
          *rd_latency_histogram: BlockLatencyHistogramInfo
          *wr_latency_histogram: BlockLatencyHistogramInfo
          *flush_latency_histogram: BlockLatencyHistogramInfo

        struct BlockStatsSpecificFile
          discard-nb-ok: uint64
          discard-nb-failed: uint64
          discard-bytes-ok: uint64

        union BlockStatsSpecific on driver
          driver: BlockdevDriver
          when file host_device: BlockStatsSpecificFile

        struct BlockStats
          *device: str
          *qdev: str
          *node-name: str
          stats: BlockDeviceStats
          *driver-specific: BlockStatsSpecific
          *parent: BlockStats | Of the file below.
          *backing: BlockStats | Of the layer below.

        command query-blockstats
          | What was read and written, by device.
          *query-nodes: bool | All nodes instead of devices. Off by default.
          returns [BlockStats]

        enum XDbgBlockGraphNodeType: block-backend block-job block-driver

        struct XDbgBlockGraphNode
          id: uint64
          type: XDbgBlockGraphNodeType
          name: str

        struct XDbgBlockGraphEdge
          parent: uint64
          child: uint64
          name: str
          perm: [BlockPermission]
          shared-perm: [BlockPermission]

        struct XDbgBlockGraph
          nodes: [XDbgBlockGraphNode]
          edges: [XDbgBlockGraphEdge]

        command x-debug-query-block-graph
          | Nodes, who uses them, and what each user may do and lets others do.
          features unstable
          returns XDbgBlockGraph
        """;
}
