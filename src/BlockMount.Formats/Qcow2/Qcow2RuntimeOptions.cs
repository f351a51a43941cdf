using System.Numerics;
using BlockMount.Formats.Qcow2.Metadata;

namespace BlockMount.Formats.Qcow2;

/// <summary>
/// The run-time options of the qcow2 driver as a user gives them for the active layer (FEATURES 5.5, with QEMU's names); null: not given. Immutable.
/// </summary>
public sealed record Qcow2RuntimeOptions
{
    /// <summary>The smallest piece of an L2 table that can be cached as one.</summary>
    public const int L2CacheEntryBytesMin = 512;

    /// <summary>l2-cache-size: bytes of L2 tables to keep in memory.</summary>
    public long? L2CacheBytes { get; init; }

    /// <summary>l2-cache-entry-size: bytes that are read, kept and written as one; a power of two from 512 to the cluster size.</summary>
    public long? L2CacheEntryBytes { get; init; }

    /// <summary>refcount-cache-size: bytes of refcount blocks to keep in memory.</summary>
    public long? RefcountCacheBytes { get; init; }

    /// <summary>cache-size: bytes of both kinds together, of all images of the chain.</summary>
    public long? CacheBytes { get; init; }

    /// <summary>cache-clean-interval: what was not used for so long leaves the caches; zero keeps it.</summary>
    public TimeSpan? CacheCleanInterval { get; init; }

    /// <summary>lazy-refcounts.</summary>
    public bool? LazyRefcounts { get; init; }

    /// <summary>pass-discard-request.</summary>
    public bool? PassDiscardRequest { get; init; }

    /// <summary>pass-discard-snapshot.</summary>
    public bool? PassDiscardSnapshot { get; init; }

    /// <summary>pass-discard-other.</summary>
    public bool? PassDiscardOther { get; init; }

    /// <summary>discard-no-unref.</summary>
    public bool? DiscardNoUnref { get; init; }

    /// <summary>overlap-check or overlap-check.template.</summary>
    public MetadataKinds? OverlapTemplate { get; init; }

    /// <summary>overlap-check.KIND=on: kinds that are checked whatever the template says.</summary>
    public MetadataKinds OverlapOn { get; init; }

    /// <summary>overlap-check.KIND=off: likewise, not checked.</summary>
    public MetadataKinds OverlapOff { get; init; }

    /// <summary>The kinds to check.</summary>
    public MetadataKinds OverlapCheck => ((OverlapTemplate ?? MetadataKinds.Cached) | OverlapOn) & ~OverlapOff;

    /// <summary>Says which options exclude each other, in QEMU's words; null if none do. What depends on the image is found when it is opened.</summary>
    public string? FindConflict()
    {
        if (CacheBytes is { } total)
        {
            if (L2CacheBytes is not null && RefcountCacheBytes is not null)
            {
                return "cache-size, l2-cache-size and refcount-cache-size may not be set at the same time";
            }

            if (L2CacheBytes > total)
            {
                return "l2-cache-size may not exceed cache-size";
            }

            if (RefcountCacheBytes > total)
            {
                return "refcount-cache-size may not exceed cache-size";
            }
        }

        return L2CacheEntryBytes is { } entry && (entry < L2CacheEntryBytesMin || !BitOperations.IsPow2(entry))
            ? $"l2-cache-entry-size must be a power of two between {L2CacheEntryBytesMin} and the cluster size"
            : null;
    }

    /// <summary>The options of an open of the active layer with these applied.</summary>
    /// <param name="start">What holds where nothing is given.</param>
    public Qcow2OpenOptions ApplyTo(Qcow2OpenOptions start) => start with
    {
        L2CacheBytes = L2CacheBytes,
        L2CacheEntryBytes = L2CacheEntryBytes,
        RefcountCacheBytes = RefcountCacheBytes,
        CacheCleanInterval = CacheCleanInterval ?? start.CacheCleanInterval,
        LazyRefcounts = LazyRefcounts ?? start.LazyRefcounts,
        DiscardToHost = PassDiscardRequest ?? start.DiscardToHost,
        PassDiscardSnapshot = PassDiscardSnapshot ?? start.PassDiscardSnapshot,
        PassDiscardOther = PassDiscardOther ?? start.PassDiscardOther,
        DiscardNoUnref = DiscardNoUnref ?? start.DiscardNoUnref,
        OverlapCheck = OverlapCheck,
    };
}
