using BlockMount.Formats.Qcow2;
using BlockMount.Formats.Qcow2.OnDisk;

namespace BlockMount.Block.Graph;

/// <summary>How the memory for metadata of one device is divided.</summary>
/// <param name="IndexBytes">For the map of everything below the active layer; 0 without a backing file.</param>
/// <param name="CacheBytes">For each image's own caches, the active layer first.</param>
internal sealed record MetadataBudget(long IndexBytes, IReadOnlyList<long> CacheBytes)
{
    // What a user leaves for the images below the active layer is not less than this part of the whole.
    private const int LeastShareBelow = 4;

    // A piece of a page in the worst case (every cluster apart from its neighbours), and of the page's own words.
    private const int IndexBytesPerCluster = 14;
    private const long IndexBytesLeast = 64 << 10;

    /// <summary>
    /// The index gets what it can use, at most half. Half of the rest is for the active layer, which is asked before the index, and the other half for the
    /// images below, which are asked only for what the index does not know; what one side does not need goes to the other. Sizes that the user
    /// gave for single caches of the active layer count, whatever it needs; then the rest still gets a part that lets it work.
    /// </summary>
    internal static MetadataBudget Divide(IReadOnlyList<ChainLink> links, ChainOpenOptions options)
    {
        Qcow2RuntimeOptions asked = options.Qcow2;
        long total = asked.CacheBytes ?? options.MetadataCacheBytes;
        long[] needed = [.. links.Select((link, index) =>
            link.Header is { } header ? CacheSizes.Needed(header, readOnly: index > 0 || options.ReadOnly) : 0)];
        long explicitly = (asked.L2CacheBytes ?? 0) + (asked.RefcountCacheBytes ?? 0);
        if (explicitly > 0)
        {
            total = Math.Max(total - explicitly, total / LeastShareBelow);
            // With one of the two sizes given, the other cache takes its part of what is left.
            needed[0] = asked is { L2CacheBytes: not null, RefcountCacheBytes: not null } ? 0 : Math.Max(needed[0] - explicitly, 0);
        }

        long index = links.Count == 1 ? 0 : Math.Min(IndexNeeded(links), total / 2);
        long[] caches = DivideCaches(needed, total - index);
        caches[0] += explicitly;
        return new MetadataBudget(index, caches);
    }

    private static long[] DivideCaches(long[] needed, long total)
    {
        long below = CacheBudget.Share([Math.Min(needed[0], total), needed.Skip(1).Sum()], total)[1];
        long[] shares = CacheBudget.Share(needed[1..], below);
        return [Math.Min(needed[0], total - shares.Sum()), .. shares];
    }

    private static long IndexNeeded(IReadOnlyList<ChainLink> links)
    {
        long granule = long.MaxValue;
        long size = 0;
        foreach (ChainLink link in links.Skip(1))
        {
            size = Math.Max(size, link.Header?.Size ?? link.File.Length);
            granule = Math.Min(granule, link.Header is { } header ? SubclusterSize(header) : long.MaxValue);
        }

        return granule == long.MaxValue ? IndexBytesLeast : (size / granule * IndexBytesPerCluster) + IndexBytesLeast;
    }

    private static long SubclusterSize(Qcow2Header header) =>
        header.HasIncompatible(FeatureBits.ExtendedL2) ? header.ClusterSize / 32 : header.ClusterSize;
}
