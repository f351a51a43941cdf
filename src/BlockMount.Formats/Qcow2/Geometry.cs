using BlockMount.Formats.Qcow2.OnDisk;

namespace BlockMount.Formats.Qcow2;

/// <summary>
/// The arithmetic of one image: sizes and shifts that follow from cluster size and refcount width (qcow2 specification,
/// "Host cluster management" and "Guest cluster mapping"). Immutable.
/// </summary>
public sealed class Geometry
{
    /// <summary>Takes over the sizes of a validated header.</summary>
    /// <param name="l2SliceSize">
    /// Bytes of an L2 table that are cached as one, a power of two up to the cluster size; null takes 4 KiB, because whole tables of 2 MiB would be
    /// read for one entry.
    /// </param>
    public Geometry(Qcow2Header header, int? l2SliceSize = null)
    {
        Version = header.Version;
        ClusterBits = header.ClusterBits;
        RefcountOrder = header.RefcountOrder;
        RefcountSliceSize = Math.Min(ClusterSize, CacheSizes.SliceBytesDefault);
        SliceSize = l2SliceSize ?? RefcountSliceSize;
        L2 = new L2Format(
            header.Version, header.HasIncompatible(FeatureBits.ExtendedL2), header.HasIncompatible(FeatureBits.ExternalDataFile));
        L2EntryBits = HasSubclusters ? 4 : 3;
        SubclusterBits = HasSubclusters ? ClusterBits - 5 : ClusterBits;
    }

    /// <summary>2 or 3.</summary>
    public int Version { get; }

    /// <summary>log2 of the cluster size.</summary>
    public int ClusterBits { get; }

    /// <summary>log2 of a refcount's width in bits.</summary>
    public int RefcountOrder { get; }

    /// <summary>How L2 entries are read.</summary>
    public L2Format L2 { get; }

    /// <summary>L2 entries have 128 bits: each cluster has 32 subclusters.</summary>
    public bool HasSubclusters => L2.HasSubclusters;

    /// <summary>Guest clusters live in another file, at their guest offset, and are not refcounted.</summary>
    public bool HasDataFile => L2.HasDataFile;

    /// <summary>log2 of the bytes of an L2 entry.</summary>
    public int L2EntryBits { get; }

    /// <summary>Bytes of an L2 entry: 8 or 16.</summary>
    public int L2EntrySize => 1 << L2EntryBits;

    /// <summary>log2 of the subcluster size.</summary>
    public int SubclusterBits { get; }

    /// <summary>Bytes of a subcluster, the unit of copy-on-write: a 32nd of a cluster, or the whole cluster where entries are standard ones.</summary>
    public int SubclusterSize => 1 << SubclusterBits;

    /// <summary>Bytes in a cluster.</summary>
    public int ClusterSize => 1 << ClusterBits;

    /// <summary>Bytes of an L2 table that are cached as one.</summary>
    public int SliceSize { get; }

    /// <summary>Bytes of a refcount block that are cached as one.</summary>
    public int RefcountSliceSize { get; }

    /// <summary>Entries of an L2 table, which fills one cluster.</summary>
    public int L2Entries => ClusterSize >> L2EntryBits;

    /// <summary>Entries of an L2 slice.</summary>
    public int L2SliceEntries => SliceSize >> L2EntryBits;

    /// <summary>Guest bytes that one L1 entry covers.</summary>
    public long L1EntryCoverage => (long)L2Entries << ClusterBits;

    /// <summary>log2 of the number of clusters that one refcount block covers.</summary>
    public int RefcountBlockBits => ClusterBits + 3 - RefcountOrder;

    /// <summary>Clusters that one slice of a refcount block covers.</summary>
    public int RefcountSliceEntries => RefcountSliceSize * 8 >> RefcountOrder;

    /// <summary>The largest refcount that fits.</summary>
    public ulong RefcountMax => RefcountOrder == 6 ? ulong.MaxValue : (1UL << (1 << RefcountOrder)) - 1;

    /// <summary>The cluster that holds a guest byte.</summary>
    public GuestCluster GuestClusterOf(long guestOffset) => new(guestOffset >> ClusterBits);

    /// <summary>The cluster that holds a byte of the image file.</summary>
    public HostCluster HostClusterOf(long hostOffset) => new(hostOffset >> ClusterBits);

    /// <summary>Guest offset of a cluster's first byte.</summary>
    public long OffsetOf(GuestCluster cluster) => cluster.Index << ClusterBits;

    /// <summary>Host offset of a cluster's first byte.</summary>
    public long OffsetOf(HostCluster cluster) => cluster.Index << ClusterBits;

    /// <summary>The part of <paramref name="offset"/> inside its cluster.</summary>
    public int OffsetInCluster(long offset) => (int)(offset & (ClusterSize - 1));

    /// <summary>Which subcluster of its cluster holds <paramref name="offset"/>.</summary>
    public int SubclusterOf(long offset) => OffsetInCluster(offset) >> SubclusterBits;

    /// <summary>Clusters needed for <paramref name="bytes"/>.</summary>
    public long ClustersFor(long bytes) => (bytes + ClusterSize - 1) >> ClusterBits;

    /// <summary>The clusters of the image file that a byte range (not empty) touches.</summary>
    public HostRun HostClustersOf(long hostOffset, int length)
    {
        HostCluster first = HostClusterOf(hostOffset);
        return new HostRun(first, HostClusterOf(hostOffset + length - 1) - first + 1);
    }

    /// <summary>Index into the L1 table.</summary>
    public long L1Index(GuestCluster cluster) => cluster.Index >> (ClusterBits - L2EntryBits);

    /// <summary>Index into the L2 table.</summary>
    public int L2Index(GuestCluster cluster) => (int)(cluster.Index & (L2Entries - 1));

    /// <summary>L1 entries that a disk of <paramref name="size"/> bytes needs.</summary>
    public long L1EntriesFor(long size) => (size + L1EntryCoverage - 1) / L1EntryCoverage;
}
