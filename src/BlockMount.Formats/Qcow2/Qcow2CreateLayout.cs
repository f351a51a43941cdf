using BlockMount.Formats.Qcow2.OnDisk;

namespace BlockMount.Formats.Qcow2;

/// <summary>
/// Where everything lies in a new image, in clusters from the start of the file. All of it is used, each cluster once:
/// <code>
/// | header | refcount table | refcount blocks | L1 table | L2 tables | data clusters |
///   0        1                                              (only with preallocation)
/// </code>
/// With an external data file there are no data clusters: it has them, at their guest offsets.
/// </summary>
internal sealed record Qcow2CreateLayout
{
    public required long RefcountTableClusters { get; init; }
    public required long RefcountBlocks { get; init; }
    public required long L1Entries { get; init; }
    public required long L1Clusters { get; init; }
    public required long L2Tables { get; init; }
    public required long GuestClusters { get; init; }
    public required long DataClusters { get; init; }

    public static long RefcountTableStart => 1;
    public long RefcountBlocksStart => RefcountTableStart + RefcountTableClusters;
    public long L1Start => RefcountBlocksStart + RefcountBlocks;
    public long L2Start => L1Start + L1Clusters;
    public long DataStart => L2Start + L2Tables;
    public long TotalClusters => DataStart + DataClusters;

    /// <summary>The layout for validated options.</summary>
    /// <exception cref="ImageFormatException">The file would exceed what refcount tables or host offsets can say.</exception>
    public static Qcow2CreateLayout For(Qcow2CreateOptions options)
    {
        int clusterBits = options.ClusterBits;
        long guestClusters = DivideUp(options.RoundedSize, clusterBits);
        // At least one entry, so that a disk that starts empty has a table to grow from.
        int l2Bits = clusterBits - options.L2EntryBits;
        long l1Entries = Math.Max(DivideUp(guestClusters, l2Bits), 1);
        var layout = new Qcow2CreateLayout
        {
            RefcountTableClusters = 1,
            RefcountBlocks = 1,
            L1Entries = l1Entries,
            L1Clusters = DivideUp(l1Entries, clusterBits - 3),
            L2Tables = options.HasTables ? DivideUp(guestClusters, l2Bits) : 0,
            GuestClusters = guestClusters,
            DataClusters = options.HasTables && options.DataFile is null ? guestClusters : 0,
        };
        layout = WithRefcounts(layout, clusterBits, options.RefcountOrder);
        CheckLimits(layout, clusterBits);
        return layout;
    }

    // Refcount structures count themselves: grow them until they cover the whole file. Each round covers all but a small
    // part of what the last one added, so a few rounds suffice.
    private static Qcow2CreateLayout WithRefcounts(Qcow2CreateLayout layout, int clusterBits, int refcountOrder)
    {
        while (true)
        {
            long blocks = DivideUp(layout.TotalClusters, clusterBits + 3 - refcountOrder);
            long tableClusters = DivideUp(blocks, clusterBits - 3);
            if (blocks == layout.RefcountBlocks && tableClusters == layout.RefcountTableClusters)
            {
                return layout;
            }

            layout = layout with { RefcountBlocks = blocks, RefcountTableClusters = tableClusters };
        }
    }

    private static void CheckLimits(Qcow2CreateLayout layout, int clusterBits)
    {
        if (layout.RefcountTableClusters > Qcow2Limits.RefcountTableBytesMax >> clusterBits
            || layout.TotalClusters > Qcow2Limits.HostOffsetEnd >> clusterBits)
        {
            throw new ImageFormatException(
                $"An image with {layout.TotalClusters} clusters of {1 << clusterBits} bytes is too large: its refcount table would exceed 8 MiB",
                "Use larger clusters (-o cluster_size=2M), narrower refcounts, or no preallocation");
        }
    }

    private static long DivideUp(long value, int bits) => (value >> bits) + ((value & ((1L << bits) - 1)) != 0 ? 1 : 0);
}
