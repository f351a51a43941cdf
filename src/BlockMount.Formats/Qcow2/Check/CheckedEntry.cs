using BlockMount.Formats.Qcow2.OnDisk;

namespace BlockMount.Formats.Qcow2.Check;

/// <summary>
/// An entry of an L1 table, for the check (qcow2 specification, "L1 table entry"). Unlike the driver's type it shows the bits that must not be there.
/// </summary>
internal readonly record struct CheckedL1Entry(ulong Raw)
{
    private const ulong OffsetMask = 0x00fffffffffffe00;
    private const ulong ReservedMask = 0x7f000000000001ff;

    internal long TableOffset => (long)(Raw & OffsetMask);

    internal bool IsCopied => (Raw & CheckedL2Entry.CopiedBit) != 0;

    internal bool HasReservedBits => (Raw & ReservedMask) != 0;

    internal CheckedL1Entry WithoutReservedBits => new(Raw & ~ReservedMask);

    internal CheckedL1Entry WithCopied(bool copied) => new(copied ? Raw | CheckedL2Entry.CopiedBit : Raw & ~CheckedL2Entry.CopiedBit);
}

/// <summary>
/// An entry of an L2 table with its subcluster bitmap (0 where the image has none), for the check (qcow2 specification, "L2 table entry",
/// "Extended L2 Entries"). Kinds are those that QEMU sees: bit 0 means zeros in version 2 as well.
/// </summary>
internal readonly record struct CheckedL2Entry(ulong Word, ulong Bitmap)
{
    internal const ulong CopiedBit = 1UL << 63;
    internal const ulong CompressedBit = 1UL << 62;
    internal const ulong ZeroBit = 1;
    private const ulong OffsetMask = 0x00fffffffffffe00;
    private const ulong ReservedMask = 0x3f000000000001fe;

    internal long HostOffset => (long)(Word & OffsetMask);

    internal bool IsCopied => (Word & CopiedBit) != 0;

    internal bool HasReservedBits => (Word & ReservedMask) != 0;

    /// <summary>Subclusters that the bitmap calls allocated.</summary>
    internal uint AllocatedSubclusters => (uint)Bitmap;

    /// <summary>Subclusters that the bitmap calls zero.</summary>
    internal uint ZeroSubclusters => (uint)(Bitmap >> 32);

    /// <summary>Subclusters that are both, which excludes itself.</summary>
    internal uint ContradictorySubclusters => AllocatedSubclusters & ZeroSubclusters;

    internal CheckedL2Entry WithoutReservedBits => this with { Word = Word & ~ReservedMask };

    internal CheckedL2Entry WithCopied(bool copied) => this with { Word = copied ? Word | CopiedBit : Word & ~CopiedBit };

    internal CheckedL2Entry WithOffset(long offset) => this with { Word = (Word & ~OffsetMask) | (ulong)offset };

    internal ClusterKind Kind(CheckedLayout layout)
    {
        if ((Word & CompressedBit) != 0)
        {
            return ClusterKind.Compressed;
        }

        if (!layout.HasSubclusters && (Word & ZeroBit) != 0)
        {
            return HostOffset == 0 ? ClusterKind.ZeroPlain : ClusterKind.ZeroAllocated;
        }

        // In an external data file the first cluster lies at 0.
        return HostOffset == 0 && !(layout.HasDataFile && IsCopied) ? ClusterKind.Unallocated : ClusterKind.Normal;
    }

    /// <summary>Bit 0 where it has no meaning, which QEMU does not look at.</summary>
    internal bool HasReservedZeroBit(CheckedLayout layout) => (Word & ZeroBit) != 0 && (layout.HasSubclusters || layout.Version == 2);

    /// <summary>The guest's bytes are in the cluster, at least some; false where it only keeps space.</summary>
    internal bool ContainsData(CheckedLayout layout) => layout.HasSubclusters ? AllocatedSubclusters != 0 : (Word & ZeroBit) == 0;

    /// <summary>
    /// The sectors of a compressed stream. The stream begins inside the first one and ends at the last one's end at the latest.
    /// </summary>
    internal (long Offset, long Length) CompressedSectors(CheckedLayout layout)
    {
        int offsetBits = 62 - (layout.ClusterBits - 8);
        long offset = (long)(Word & ((1UL << offsetBits) - 1)) & ~511L;
        long sectors = (long)((Word & (CompressedBit - 1)) >> offsetBits) + 1;
        return (offset, sectors * 512);
    }
}
