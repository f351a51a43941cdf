using System.Numerics;

namespace BlockMount.Formats.Qcow2.OnDisk;

/// <summary>
/// How the L2 entries of one image are read (qcow2 specification, "L2 table entry" and "Extended L2 Entries"). A cluster is seen as
/// <see cref="Subclusters"/> equal parts, each of a kind of its own; with standard entries there is one part.
/// </summary>
/// <param name="Version">2 or 3.</param>
/// <param name="HasSubclusters">Entries of 128 bits: the second word holds 32 allocation bits and 32 zero bits.</param>
/// <param name="HasDataFile">Guest clusters live in another file, at their guest offset; an entry with offset 0 and COPIED is then allocated.</param>
public readonly record struct L2Format(int Version, bool HasSubclusters, bool HasDataFile)
{
    /// <summary>Parts of a cluster: 1 or 32.</summary>
    public int Subclusters => HasSubclusters ? 32 : 1;

    /// <summary>The mask of all parts.</summary>
    public uint AllSubclusters => HasSubclusters ? uint.MaxValue : 1;

    /// <summary>The mask of <paramref name="count"/> parts from <paramref name="first"/> on.</summary>
    public static uint MaskOf(int first, int count) => (uint)(((1UL << count) - 1) << first);

    /// <summary>What an entry says of its part <paramref name="subcluster"/>.</summary>
    public ClusterKind KindAt(L2Entry entry, int subcluster)
    {
        if (!HasSubclusters)
        {
            ClusterKind kind = entry.Kind(Version);
            return kind == ClusterKind.Unallocated && HasDataFile && entry.IsCopied ? ClusterKind.Normal : kind;
        }

        if (entry.IsCompressed)
        {
            return ClusterKind.Compressed;
        }

        bool hasHost = HasHostCluster(entry);
        if ((entry.DataBits & entry.ZeroBits) != 0 || (!hasHost && entry.DataBits != 0))
        {
            return ClusterKind.Invalid;
        }

        uint bit = 1u << subcluster;
        if ((entry.DataBits & bit) != 0)
        {
            return ClusterKind.Normal;
        }

        return (entry.ZeroBits & bit) == 0 ? ClusterKind.Unallocated : hasHost ? ClusterKind.ZeroAllocated : ClusterKind.ZeroPlain;
    }

    /// <summary>How many parts from <paramref name="subcluster"/> on are of <paramref name="kind"/>, which that part is: up to the end of the cluster.</summary>
    public int RunLength(L2Entry entry, int subcluster, ClusterKind kind)
    {
        uint mask = kind switch
        {
            _ when !HasSubclusters => 1,
            ClusterKind.Compressed => uint.MaxValue,
            ClusterKind.Normal => entry.DataBits,
            ClusterKind.Unallocated => ~(entry.DataBits | entry.ZeroBits),
            _ => entry.ZeroBits,
        };
        return BitOperations.TrailingZeroCount(~(mask >> subcluster));
    }

    /// <summary>The entry names a whole host cluster, whatever its parts are.</summary>
    public bool HasHostCluster(L2Entry entry) =>
        !entry.IsCompressed && (entry.HostOffset != 0 || (HasDataFile && entry.IsCopied && (HasSubclusters || entry.Kind(Version) == ClusterKind.Unallocated)));

    /// <summary>The parts that hold data in the host cluster; all of them where it is compressed.</summary>
    public uint DataMask(L2Entry entry)
    {
        if (entry.IsCompressed)
        {
            return AllSubclusters;
        }

        return HasSubclusters ? entry.DataBits : KindAt(entry, 0) == ClusterKind.Normal ? 1u : 0;
    }

    /// <summary>The parts that read as zeros whatever the backing file holds.</summary>
    public uint ZeroMask(L2Entry entry)
    {
        if (entry.IsCompressed)
        {
            return 0;
        }

        return HasSubclusters ? entry.ZeroBits : KindAt(entry, 0) is ClusterKind.ZeroPlain or ClusterKind.ZeroAllocated ? 1u : 0;
    }

    /// <summary>An entry for a host cluster that nobody shares.</summary>
    /// <param name="data">The parts that hold data.</param>
    /// <param name="zero">The parts that read as zeros; apart from <paramref name="data"/>.</param>
    public L2Entry Own(long hostOffset, uint data, uint zero) => HasSubclusters
        ? L2Entry.ForData(hostOffset).WithBits(data, zero)
        : data != 0 ? L2Entry.ForData(hostOffset) : L2Entry.ForZeroAllocated(hostOffset);

    /// <summary>The entry that reads as zeros without a host cluster (version 3).</summary>
    public L2Entry Zero => HasSubclusters ? default(L2Entry).WithBits(0, AllSubclusters) : L2Entry.Zero;
}
