using System.Numerics;
using BlockMount.Formats.Qcow2.OnDisk;

namespace BlockMount.Formats.Qcow2;

/// <summary>How much metadata one image may keep in memory, in slices. The L1 table and the refcount table are in memory besides.</summary>
/// <param name="L2SliceSize">Bytes of an L2 table that are cached as one.</param>
/// <param name="L2Slices">Slices of L2 tables, at least 2.</param>
/// <param name="RefcountSlices">Slices of refcount blocks, at least 2.</param>
public readonly record struct CacheSizes(int L2SliceSize, int L2Slices, int RefcountSlices)
{
    /// <summary>Bytes of a refcount block that are cached as one, or a cluster where that is smaller; of an L2 table if nothing else is asked for.</summary>
    public const int SliceBytesDefault = 4096;

    // The rest is for L2 tables: every request needs them, and refcounts only allocations do, mostly one slice after the other.
    private const int RefcountShare = 4;

    /// <summary>Bytes of L2 tables and refcount blocks (of a writable image) that cover the whole disk: more is of no use.</summary>
    public static long Needed(Qcow2Header header, bool readOnly) => L2Needed(header) + (readOnly ? 0 : RefcountsNeeded(header));

    /// <summary>
    /// Divides <see cref="Qcow2OpenOptions.CacheBytes"/>: what is asked for by name gets that, and the other kind the rest; without names refcounts get
    /// a quarter, or what they need if that is less.
    /// </summary>
    /// <exception cref="ImageFormatException">l2-cache-entry-size does not fit the image.</exception>
    public static CacheSizes For(Qcow2Header header, Qcow2OpenOptions options, string name)
    {
        int sliceSize = L2SliceSizeOf(header, options.L2CacheEntryBytes, name);
        long total = options.CacheBytes;
        long refcounts = options switch
        {
            { RefcountCacheBytes: { } asked } => asked,
            { ReadOnly: true } => 0,
            { L2CacheBytes: { } l2 } => total - l2,
            _ => Math.Min(total / RefcountShare, RefcountsNeeded(header)),
        };
        long tables = options.L2CacheBytes ?? (total - refcounts);
        return new CacheSizes(sliceSize, Slices(tables, sliceSize), Slices(refcounts, Math.Min(header.ClusterSize, SliceBytesDefault)));
    }

    private static int L2SliceSizeOf(Qcow2Header header, long? asked, string name)
    {
        if (asked is not { } bytes)
        {
            return Math.Min(header.ClusterSize, SliceBytesDefault);
        }

        return bytes >= Qcow2RuntimeOptions.L2CacheEntryBytesMin && bytes <= header.ClusterSize && BitOperations.IsPow2(bytes)
            ? (int)bytes
            : throw new ImageFormatException(
                $"Could not open '{name}': L2 cache entry size must be a power of two between "
                    + $"{Qcow2RuntimeOptions.L2CacheEntryBytesMin} and the cluster size ({header.ClusterSize}), and is {bytes}",
                "Leave l2-cache-entry-size out: 4 KiB suit nearly every disk");
    }

    private static long Clusters(Qcow2Header header) => (header.Size >> header.ClusterBits) + 1;

    private static long L2Needed(Qcow2Header header) => Clusters(header) * header.L2EntrySize;

    private static long RefcountsNeeded(Qcow2Header header) => ((Clusters(header) << header.RefcountOrder) / 8) + SliceBytesDefault;

    private static int Slices(long bytes, int sliceSize) => (int)Math.Clamp(bytes / sliceSize, 2, int.MaxValue);
}
