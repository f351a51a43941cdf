namespace BlockMount.Formats.Qcow2.OnDisk;

/// <summary>What an L2 entry says of its cluster.</summary>
public enum ClusterKind
{
    /// <summary>Nothing here: the backing file shows through.</summary>
    Unallocated,

    /// <summary>Guest data in a host cluster.</summary>
    Normal,

    /// <summary>Reads as zeros, no host cluster.</summary>
    ZeroPlain,

    /// <summary>Reads as zeros; a host cluster is preallocated.</summary>
    ZeroAllocated,

    /// <summary>A compressed stream in the middle of the file.</summary>
    Compressed,
}

/// <summary>
/// Standard entry of an L2 table (qcow2 specification, "L2 table entry"): bit 0 zero (version 3), bits 9-55 host offset,
/// bit 62 compressed, bit 63 COPIED (refcount exactly one). Compressed: bits 0 to x-1 host offset, x to 61 number of additional
/// 512-byte sectors, with x = 62 - (cluster_bits - 8).
/// </summary>
public readonly record struct L2Entry(ulong Raw)
{
    private const ulong ZeroBit = 1;
    private const ulong OffsetMask = 0x00ff_ffff_ffff_fe00;
    private const ulong CompressedBit = 1UL << 62;
    private const ulong CopiedBit = 1UL << 63;
    private const int SectorSize = 512;

    /// <summary>The entry that lets the backing file show through.</summary>
    public static L2Entry Unallocated => default;

    /// <summary>The entry that reads as zeros without a host cluster (version 3).</summary>
    public static L2Entry Zero => new(ZeroBit);

    /// <summary>Guest data in a host cluster that nobody shares.</summary>
    public static L2Entry ForData(long hostOffset) => new((ulong)hostOffset | CopiedBit);

    /// <summary>Zeros, with a host cluster of its own kept for later (version 3).</summary>
    public static L2Entry ForZeroAllocated(long hostOffset) => new((ulong)hostOffset | CopiedBit | ZeroBit);

    /// <summary>Host offset of a Normal or ZeroAllocated cluster.</summary>
    public long HostOffset => (long)(Raw & OffsetMask);

    /// <summary>The host cluster may be overwritten in place.</summary>
    public bool IsCopied => (Raw & CopiedBit) != 0;

    /// <summary>True for a compressed cluster, whose entry never carries COPIED.</summary>
    public bool IsCompressed => (Raw & CompressedBit) != 0;

    /// <summary>This entry with COPIED set or cleared.</summary>
    public L2Entry WithCopied(bool copied) => new(copied ? Raw | CopiedBit : Raw & ~CopiedBit);

    /// <summary>The kind, by the rules of <paramref name="version"/> (bit 0 is reserved in version 2).</summary>
    public ClusterKind Kind(int version)
    {
        if ((Raw & CompressedBit) != 0)
        {
            return ClusterKind.Compressed;
        }

        if (version >= 3 && (Raw & ZeroBit) != 0)
        {
            return HostOffset == 0 ? ClusterKind.ZeroPlain : ClusterKind.ZeroAllocated;
        }

        return HostOffset == 0 ? ClusterKind.Unallocated : ClusterKind.Normal;
    }

    /// <summary>Where a compressed stream lies: its first byte and the bytes up to the end of its last sector.</summary>
    public (long HostOffset, int Length) CompressedExtent(int clusterBits)
    {
        int offsetBits = 62 - (clusterBits - 8);
        long offset = (long)(Raw & ((1UL << offsetBits) - 1));
        int sectors = (int)((Raw & ~(CompressedBit | CopiedBit)) >> offsetBits) + 1;
        return (offset, (sectors * SectorSize) - (int)(offset & (SectorSize - 1)));
    }
}
