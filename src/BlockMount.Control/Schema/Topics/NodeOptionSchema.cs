namespace BlockMount.Control.Schema;

/// <summary>What nodes are opened with: the drivers and their options.</summary>
internal static class NodeOptionSchema
{
    internal const string Text = """
        enum BlockdevDriver: blkdebug copy-on-read file host_device null-aio null-co qcow2 raw throttle
        enum BlockdevDiscardOptions: ignore unmap
        enum BlockdevDetectZeroesOptions: off on unmap
        enum OnOffAuto: auto on off
        enum BlockdevAioOptions: threads native io_uring

        struct BlockdevCacheOptions
          *direct: bool | Past the page cache (O_DIRECT); off by default.
          *no-flush: bool | Never flush: fast, and the image is lost when the host crashes. Off by default.

        union BlockdevOptions on driver
          | Options of a node.
          driver: BlockdevDriver
          *node-name: str | Name of the node; needed for one that is added by itself. A letter, then up to 30 letters, digits, '.', '_' or '-'.
          *discard: BlockdevDiscardOptions | 'unmap' passes discards on to the file; 'ignore' by default.
          *cache: BlockdevCacheOptions
          *read-only: bool | Off by default.
          *auto-read-only: bool | Open for reading where writing is not allowed, or not yet needed. Off by default.
          *force-share: bool | Open for reading although somebody writes: what is read may be anything. Off by default.
          *detect-zeroes: BlockdevDetectZeroesOptions | Zeroes that are written become zero clusters, or with 'unmap' holes. Off by default.
          when blkdebug: BlockdevOptionsBlkdebug
          when copy-on-read: BlockdevOptionsCor
          when file host_device: BlockdevOptionsFile
          when null-aio null-co: BlockdevOptionsNull
          when qcow2: BlockdevOptionsQcow2
          when raw: BlockdevOptionsRaw
          when throttle: BlockdevOptionsThrottle

        alternate BlockdevRef: BlockdevOptions str
        alternate BlockdevRefOrNull: BlockdevOptions str null

        struct BlockdevOptionsFile
          features dynamic-auto-read-only
          filename: str | Path of a file, or of a block device.
          *pr-manager: str | Accepted for QEMU's sake and refused when it is used.
          *locking: OnOffAuto | Locks that keep a second writer away, as QEMU takes them; 'auto' by default.
          *aio: BlockdevAioOptions | How requests reach the kernel; 'threads' by default.
          *aio-max-batch: int | Requests given to the kernel at once; 0: no limit.
          *drop-cache: bool | Accepted for QEMU's sake.
          *x-check-cache-dropped: bool {unstable} | Accepted for QEMU's sake.

        struct BlockdevOptionsNull
          *size: int | Bytes; 1 GiB by default.
          *latency-ns: uint64 | Nanoseconds that each request takes; 0 by default.
          *read-zeroes: bool | Reads give zeroes instead of leaving the buffer alone. Off by default.

        struct BlockdevOptionsRaw
          file: BlockdevRef
          *offset: int | Where the disk begins in the file, in bytes; 0 by default.
          *size: int | Length of the disk in bytes; to the end of the file by default.

        struct BlockdevOptionsCor
          file: BlockdevRef
          *bottom: str | Name of the lowest node that is copied from.

        struct BlockdevOptionsThrottle
          throttle-group: str | Name of the object that holds the limits.
          file: BlockdevRef

        enum Qcow2OverlapCheckMode: none constant cached all

        struct Qcow2OverlapCheckFlags
          *template: Qcow2OverlapCheckMode | What the others are by default.
          *main-header: bool
          *active-l1: bool
          *active-l2: bool
          *refcount-table: bool
          *refcount-block: bool
          *snapshot-table: bool
          *inactive-l1: bool
          *inactive-l2: bool
          *bitmap-directory: bool

        alternate Qcow2OverlapChecks: Qcow2OverlapCheckFlags Qcow2OverlapCheckMode

        enum BlockdevQcow2EncryptionFormat: aes luks

        struct QCryptoBlockOptionsQCow
          *key-secret: str

        struct QCryptoBlockOptionsLUKS
          *key-secret: str

        union BlockdevQcow2Encryption on format
          format: BlockdevQcow2EncryptionFormat
          when aes: QCryptoBlockOptionsQCow
          when luks: QCryptoBlockOptionsLUKS

        struct BlockdevOptionsQcow2
          file: BlockdevRef
          *backing: BlockdevRefOrNull | The layer below; null: none. What the image's header names by default.
          *lazy-refcounts: bool
          *pass-discard-request: bool
          *pass-discard-snapshot: bool
          *pass-discard-other: bool
          *overlap-check: Qcow2OverlapChecks
          *cache-size: int | Bytes for both caches.
          *l2-cache-size: int | Bytes.
          *l2-cache-entry-size: int | Bytes.
          *refcount-cache-size: int | Bytes.
          *cache-clean-interval: int | Seconds until an unused entry is dropped; 0: never.
          *encrypt: BlockdevQcow2Encryption
          *data-file: BlockdevRef | The file that holds the disk's data, for images that keep it outside.

        enum BlkdebugEvent: l1_update l1_grow_alloc_table l1_grow_write_table l1_grow_activate_table l2_load l2_update l2_update_compressed l2_alloc_cow_read l2_alloc_write read_aio read_backing_aio read_compressed write_aio write_compressed vmstate_load vmstate_save cow_read cow_write reftable_load reftable_grow reftable_update refblock_load refblock_update refblock_update_part refblock_alloc refblock_alloc_hookup refblock_alloc_write refblock_alloc_write_blocks refblock_alloc_write_table refblock_alloc_switch_table cluster_alloc cluster_alloc_bytes cluster_free flush_to_os flush_to_disk pwritev_rmw_head pwritev_rmw_after_head pwritev_rmw_tail pwritev_rmw_after_tail pwritev pwritev_zero pwritev_done empty_image_prepare l1_shrink_write_table l1_shrink_free_l2_clusters cor_write cluster_alloc_space none
        enum BlkdebugIOType: read write write-zeroes discard flush block-status
        enum BlockPermission: consistent-read write write-unchanged resize

        struct BlkdebugInjectErrorOptions
          event: BlkdebugEvent | What triggers the rule.
          *state: int | Only in this state; in any by default.
          *iotype: BlkdebugIOType
          *errno: int | EIO by default.
          *sector: int | Only requests that touch this sector of 512 bytes.
          *once: bool | Off by default.
          *immediately: bool | Off by default.

        struct BlkdebugSetStateOptions
          event: BlkdebugEvent
          *state: int
          new_state: int

        struct BlockdevOptionsBlkdebug
          image: BlockdevRef
          *config: str | File with rules.
          *align: int | Alignment that the node demands, in bytes.
          *max-transfer: int
          *opt-write-zero: int
          *max-write-zero: int
          *opt-discard: int
          *max-discard: int
          *inject-error: [BlkdebugInjectErrorOptions]
          *set-state: [BlkdebugSetStateOptions]
          *take-child-perms: [BlockPermission]
          *unshare-child-perms: [BlockPermission]
        """;
}
