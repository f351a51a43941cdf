using BlockMount.Formats.Qcow2.Metadata;
using BlockMount.Formats.Qcow2.Repair;
using BlockMount.Storage;

namespace BlockMount.Formats.Qcow2;

/// <summary>Run-time options of one qcow2 image.</summary>
public sealed record Qcow2OpenOptions
{
    /// <summary>QEMU's default of cache-clean-interval.</summary>
    public static readonly TimeSpan CacheCleanIntervalDefault = TimeSpan.FromMinutes(10);

    /// <summary>The image is not changed, not even its autoclear bits.</summary>
    public bool ReadOnly { get; init; }

    /// <summary>Memory for cached metadata in bytes. The caches never hold fewer than two slices each, so the bound is soft at the low end.</summary>
    public long CacheBytes { get; init; } = 32 << 20;

    /// <summary>
    /// The file that holds the guest's data, for images with an external data file and for no others; as writable as the image. The driver owns it
    /// once the image is open.
    /// </summary>
    public StorageFile? DataFile { get; init; }

    /// <summary>The file and the data file belong to somebody else: closing the image leaves them open.</summary>
    public bool LeaveFilesOpen { get; init; }

    /// <summary>Of these, bytes for L2 tables; null: see <see cref="CacheSizes.For"/>.</summary>
    public long? L2CacheBytes { get; init; }

    /// <summary>Of these, bytes for refcount blocks; null likewise.</summary>
    public long? RefcountCacheBytes { get; init; }

    /// <summary>Bytes of an L2 table that are cached as one, a power of two from 512 to the cluster size; null: 4 KiB.</summary>
    public long? L2CacheEntryBytes { get; init; }

    /// <summary>Cached metadata that was not used for so long is let go; zero keeps it.</summary>
    public TimeSpan CacheCleanInterval { get; init; } = CacheCleanIntervalDefault;

    /// <summary>The clock for <see cref="CacheCleanInterval"/>.</summary>
    public TimeProvider Time { get; init; } = TimeProvider.System;

    /// <summary>Space that the guest discards or zeroes away goes back to the host file system (option pass-discard-request).</summary>
    public bool DiscardToHost { get; init; } = true;

    /// <summary>
    /// The internal snapshot to show, by id or else by name, instead of the active state; null shows the active state. Only with
    /// <see cref="ReadOnly"/>.
    /// </summary>
    public string? Snapshot { get; init; }

    /// <summary>So does the space of deleted snapshots (option pass-discard-snapshot).</summary>
    public bool PassDiscardSnapshot { get; init; } = true;

    /// <summary>
    /// So does other space that becomes free, as that of moved tables and overwritten compressed clusters (option pass-discard-other). By default it
    /// stays with the file, because it is used again soon.
    /// </summary>
    public bool PassDiscardOther { get; init; }

    /// <summary>
    /// Discarded clusters keep their place in the file, as preallocated zeros, so that the file does not become fragmented (option discard-no-unref).
    /// Version 3.
    /// </summary>
    public bool DiscardNoUnref { get; init; }

    /// <summary>
    /// Refcounts are written lazily, under the dirty bit: after a crash they are rebuilt before the image is written to again. Null: as the image
    /// says. Version 3.
    /// </summary>
    public bool? LazyRefcounts { get; init; }

    /// <summary>
    /// Repairs the image in a file that is marked dirty, before it is opened for writing, and clears the mark; the file stays open. Null refuses
    /// such images.
    /// </summary>
    public Func<StorageFile, ValueTask>? RepairDirty { get; init; } = DirtyImage.RepairAsync;

    /// <summary>Structures that nothing else may overwrite (option overlap-check); the header's cluster is always one of them.</summary>
    public MetadataKinds OverlapCheck { get; init; } = MetadataKinds.Cached;

    /// <summary>Told once when the image is found damaged. Any thread; must not throw or wait.</summary>
    public Action<CorruptionReport>? OnCorruption { get; init; }
}
