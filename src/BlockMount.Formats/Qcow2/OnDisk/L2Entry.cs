namespace BlockMount.Formats.Qcow2.OnDisk;

/// <summary>What an L2 entry says of its cluster, or of one subcluster.</summary>
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

    /// <summary>The entry contradicts itself: a subcluster that is data and zero, or data without a host cluster.</summary>
    Invalid,
}

/// <summary>
/// Entry of an L2 table (qcow2 specification, "L2 table entry"): bit 0 zero (version 3, standard entries), bits 9-55 host offset,
/// bit 62 compressed, bit 63 COPIED (refcount exactly one). Compressed: bits 0 to x-1 host offset, x to 61 number of additional
/// 512-byte sectors, with x = 62 - (cluster_bits - 8). What it means for a part of the cluster: <see cref="L2Format"/>.
/// </summary>
/// <param name="Raw">The first word; the only one of a standard entry.</param>
/// <param name="Bitmap">
/// The second word of an extended entry ("Extended L2 Entries"): bits 0-31 subcluster allocated, bits 32-63 subcluster reads as zeros. 0 in
/// standard entries, and without meaning in compressed ones.
/// </param>
public readonly record struct L2Entry(ulong Raw, ulong Bitmap = 0)
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

    /// <summary>A compressed stream of <paramref name="length"/> bytes, less than a cluster, that ends at or before <see cref="CompressedOffsetEnd"/>.</summary>
    public static L2Entry ForCompressed(long hostOffset, int length, int clusterBits)
    {
        long sectors = ((hostOffset + length - 1) / SectorSize) - (hostOffset / SectorSize);
        return new(CompressedBit | ((ulong)sectors << CompressedOffsetBits(clusterBits)) | (ulong)hostOffset);
    }

    /// <summary>Compressed streams must lie below this host offset: their entries have fewer bits for it the larger clusters are.</summary>
    public static long CompressedOffsetEnd(int clusterBits) => Math.Min(1L << CompressedOffsetBits(clusterBits), Qcow2Limits.HostOffsetEnd);

    /// <summary>Host offset of a Normal or ZeroAllocated cluster.</summary>
    public long HostOffset => (long)(Raw & OffsetMask);

    /// <summary>The host cluster may be overwritten in place.</summary>
    public bool IsCopied => (Raw & CopiedBit) != 0;

    /// <summary>The cluster is compressed.</summary>
    public bool IsCompressed => (Raw & CompressedBit) != 0;

    /// <summary>This entry with COPIED set or cleared.</summary>
    public L2Entry WithCopied(bool copied) => this with { Raw = copied ? Raw | CopiedBit : Raw & ~CopiedBit };

    /// <summary>Subclusters with data, of an extended entry that is not compressed.</summary>
    public uint DataBits => (uint)Bitmap;

    /// <summary>Subclusters that read as zeros, of an extended entry that is not compressed.</summary>
    public uint ZeroBits => (uint)(Bitmap >> 32);

    /// <summary>The same first word with other subcluster bits.</summary>
    public L2Entry WithBits(uint data, uint zero) => new(Raw, data | ((ulong)zero << 32));

    /// <summary>The kind of a standard entry, by the rules of <paramref name="version"/> (bit 0 is reserved in version 2).</summary>
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
        int offsetBits = CompressedOffsetBits(clusterBits);
        long offset = (long)(Raw & ((1UL << offsetBits) - 1));
        int sectors = (int)((Raw & ~(CompressedBit | CopiedBit)) >> offsetBits) + 1;
        return (offset, (sectors * SectorSize) - (int)(offset & (SectorSize - 1)));
    }

    private static int CompressedOffsetBits(int clusterBits) => 62 - (clusterBits - 8);
}
