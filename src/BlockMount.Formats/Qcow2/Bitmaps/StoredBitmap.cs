using System.Buffers.Binary;
using System.Text;
using BlockMount.Base;
using BlockMount.Formats.Qcow2.OnDisk;

namespace BlockMount.Formats.Qcow2.Bitmaps;

/// <summary>
/// One entry of the bitmap directory as stored (qcow2 specification, "Bitmap directory"). Fields are foreign until <see cref="Defect"/> is null.
/// Immutable; name and extra data may be slices of the whole directory.
/// </summary>
public sealed record StoredBitmap
{
    /// <summary>Flag: the bitmap was not saved by its last user; its content is not to be relied on.</summary>
    public const uint InUseFlag = 1;

    /// <summary>Flag: the bitmap records changes ("enabled").</summary>
    public const uint AutoFlag = 2;

    /// <summary>Flag: who does not know the extra data may use the bitmap.</summary>
    public const uint ExtraDataCompatibleFlag = 4;

    /// <summary>The only type there is: bits of changed guest ranges.</summary>
    public const byte DirtyTrackingType = 1;

    //  0: u64 bitmap_table_offset   8: u32 bitmap_table_size  12: u32 flags  16: u8 type  17: u8 granularity_bits
    // 18: u16 name_size            20: u32 extra_data_size    24: extra data, name, padding to 8
    internal const int FlagsOffset = 12;
    internal const int NameSizeOffset = 18;
    internal const int ExtraSizeOffset = 20;
    private const uint KnownFlags = InUseFlag | AutoFlag | ExtraDataCompatibleFlag;

    /// <summary>UTF-8 by convention; 1 to 1023 bytes.</summary>
    public required ReadOnlyMemory<byte> NameBytes { get; init; }

    /// <summary>Host offset of the table.</summary>
    public required ulong TableOffset { get; init; }

    /// <summary>Entries of the table: clusters of bits.</summary>
    public required uint TableEntries { get; init; }

    public required uint Flags { get; init; }

    public byte Type { get; init; } = DirtyTrackingType;

    /// <summary>log2 of the guest bytes that one bit stands for.</summary>
    public required byte GranularityBits { get; init; }

    /// <summary>Unknown data of the entry, kept as it is.</summary>
    public ReadOnlyMemory<byte> ExtraData { get; init; }

    /// <summary>Why the bits cannot be used, besides <see cref="IsInUse"/>; null if nothing is wrong.</summary>
    public string? Defect { get; init; }

    /// <summary>The name for people and look-ups; foreign text.</summary>
    public string Name => Encoding.UTF8.GetString(NameBytes.Span);

    /// <summary>Guest bytes that one bit stands for; 0 where the stored value is out of all bounds.</summary>
    public long Granularity => GranularityBits < 63 ? 1L << GranularityBits : 0;

    /// <summary>Its last user did not save it.</summary>
    public bool IsInUse => (Flags & InUseFlag) != 0;

    /// <summary>It records changes.</summary>
    public bool IsAuto => (Flags & AutoFlag) != 0;

    /// <summary>The bits say what they should.</summary>
    public bool IsConsistent => Defect is null && !IsInUse;

    /// <summary>Bytes in the directory, padding included.</summary>
    internal int StoredLength => (Qcow2Limits.BitmapEntryBytesMin + ExtraData.Length + NameBytes.Length + 7) & ~7;

    /// <summary>Bytes of bits that a disk of <paramref name="diskSize"/> bytes needs.</summary>
    public static long BytesFor(long diskSize, int granularityBits) => (BitsFor(diskSize, granularityBits) + 7) / 8;

    /// <summary>Bits that a disk of <paramref name="diskSize"/> bytes needs; the last one may stand for less.</summary>
    public static long BitsFor(long diskSize, int granularityBits) =>
        (diskSize >> granularityBits) + ((diskSize & ((1L << granularityBits) - 1)) != 0 ? 1 : 0);

    /// <summary>Decodes an entry whose parts lie inside <paramref name="entry"/>.</summary>
    internal static StoredBitmap Read(ReadOnlyMemory<byte> entry)
    {
        ReadOnlySpan<byte> fields = entry.Span;
        int nameSize = BinaryPrimitives.ReadUInt16BigEndian(fields[NameSizeOffset..]);
        int extraSize = (int)BinaryPrimitives.ReadUInt32BigEndian(fields[ExtraSizeOffset..]);
        return new StoredBitmap
        {
            TableOffset = BinaryPrimitives.ReadUInt64BigEndian(fields),
            TableEntries = BinaryPrimitives.ReadUInt32BigEndian(fields[8..]),
            Flags = BinaryPrimitives.ReadUInt32BigEndian(fields[FlagsOffset..]),
            Type = fields[16],
            GranularityBits = fields[17],
            ExtraData = entry.Slice(Qcow2Limits.BitmapEntryBytesMin, extraSize),
            NameBytes = entry.Slice(Qcow2Limits.BitmapEntryBytesMin + extraSize, nameSize),
        };
    }

    /// <summary>Encodes at the start of <paramref name="target"/>, which is zeroed.</summary>
    internal void Write(Span<byte> target)
    {
        BinaryPrimitives.WriteUInt64BigEndian(target, TableOffset);
        BinaryPrimitives.WriteUInt32BigEndian(target[8..], TableEntries);
        BinaryPrimitives.WriteUInt32BigEndian(target[FlagsOffset..], Flags);
        target[16] = Type;
        target[17] = GranularityBits;
        BinaryPrimitives.WriteUInt16BigEndian(target[NameSizeOffset..], (ushort)NameBytes.Length);
        BinaryPrimitives.WriteUInt32BigEndian(target[ExtraSizeOffset..], (uint)ExtraData.Length);
        ExtraData.Span.CopyTo(target[Qcow2Limits.BitmapEntryBytesMin..]);
        NameBytes.Span.CopyTo(target[(Qcow2Limits.BitmapEntryBytesMin + ExtraData.Length)..]);
    }

    /// <summary>What is wrong about the fields for an image of this shape; null for nothing.</summary>
    internal string? FindDefect(long clusterSize, long diskSize, long fileLength)
    {
        if (FindFieldDefect() is { } defect)
        {
            return defect;
        }

        long tableBytes = TableEntries * (long)sizeof(ulong);
        if (TableOffset == 0 || TableOffset % (ulong)clusterSize != 0)
        {
            return $"its table offset {TableOffset} is not a multiple of the cluster size {clusterSize}";
        }

        if (TableOffset > (ulong)fileLength || tableBytes > Alignment.Up(fileLength, clusterSize) - (long)TableOffset)
        {
            return $"its table at {TableOffset} with {tableBytes} bytes ends past the end of the file ({fileLength} bytes)";
        }

        if (TableEntries * clusterSize > Qcow2Limits.BitmapBytesMax)
        {
            return $"its table has {TableEntries} entries, more than {Qcow2Limits.BitmapBytesMax / clusterSize}";
        }

        return !IsInUse && BytesFor(diskSize, GranularityBits) > TableEntries * clusterSize
            ? $"its table has {TableEntries} entries, too few for the disk"
            : null;
    }

    private string? FindFieldDefect()
    {
        if (NameBytes.Length is 0 or > Qcow2Limits.BitmapNameBytesMax)
        {
            return $"its name has {NameBytes.Length} bytes, outside 1 to {Qcow2Limits.BitmapNameBytesMax}";
        }

        if (Type != DirtyTrackingType)
        {
            return $"its type is {Type}, known is {DirtyTrackingType}";
        }

        if (GranularityBits is < Qcow2Limits.BitmapGranularityBitsMin or > Qcow2Limits.BitmapGranularityBitsMax)
        {
            return $"its granularity_bits is {GranularityBits}, outside {Qcow2Limits.BitmapGranularityBitsMin} to {Qcow2Limits.BitmapGranularityBitsMax}";
        }

        if ((Flags & ~KnownFlags) != 0)
        {
            return $"its flags {Flags:x} contain reserved bits";
        }

        if (ExtraData.Length > 0 && (Flags & ExtraDataCompatibleFlag) == 0)
        {
            return $"it has {ExtraData.Length} bytes of unknown extra data";
        }

        return TableEntries is 0 || TableEntries > Qcow2Limits.BitmapTableEntriesMax
            ? $"its table has {TableEntries} entries, outside 1 to {Qcow2Limits.BitmapTableEntriesMax}"
            : null;
    }
}
