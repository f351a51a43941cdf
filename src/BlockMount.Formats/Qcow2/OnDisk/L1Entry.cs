namespace BlockMount.Formats.Qcow2.OnDisk;

/// <summary>
/// Entry of an L1 table (qcow2 specification, "L1 table entry"):
/// bits 9-55 host offset of the L2 table, bit 63 COPIED (the table's refcount is exactly one).
/// </summary>
public readonly record struct L1Entry(ulong Raw)
{
    private const ulong OffsetMask = 0x00ff_ffff_ffff_fe00;
    private const ulong CopiedBit = 1UL << 63;

    /// <summary>An entry for a table that only this L1 table uses.</summary>
    public static L1Entry ForOwnTable(long hostOffset) => new((ulong)hostOffset | CopiedBit);

    /// <summary>An entry for a table that a snapshot uses, too; it must not be changed in place.</summary>
    public static L1Entry ForSharedTable(long hostOffset) => new((ulong)hostOffset);

    /// <summary>Host offset of the L2 table; 0 when there is none.</summary>
    public long TableOffset => (long)(Raw & OffsetMask);

    /// <summary>True if there is an L2 table.</summary>
    public bool IsPresent => TableOffset != 0;

    /// <summary>The table may be changed in place.</summary>
    public bool IsCopied => (Raw & CopiedBit) != 0;

    /// <summary>This entry with COPIED set or cleared.</summary>
    public L1Entry WithCopied(bool copied) => new(copied ? Raw | CopiedBit : Raw & ~CopiedBit);
}
