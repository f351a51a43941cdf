using System.Buffers.Binary;

namespace BlockMount.Formats.Qcow2.OnDisk;

/// <summary>Content of the bitmaps extension (qcow2 specification, "Bitmaps extension"): where the directory lies.</summary>
/// <param name="Count">Entries, at least 1.</param>
/// <param name="DirectorySize">Bytes, padding of the entries included.</param>
/// <param name="DirectoryOffset">Host offset, a multiple of the cluster size.</param>
internal readonly record struct BitmapsExtension(uint Count, ulong DirectorySize, ulong DirectoryOffset)
{
    // 0: u32 nb_bitmaps  4: u32 reserved  8: u64 bitmap_directory_size  16: u64 bitmap_directory_offset
    public const int Size = 24;

    /// <summary>Decodes; false if the content has another length.</summary>
    public static bool TryRead(ReadOnlySpan<byte> data, out BitmapsExtension extension)
    {
        if (data.Length != Size)
        {
            extension = default;
            return false;
        }

        extension = new BitmapsExtension(
            BinaryPrimitives.ReadUInt32BigEndian(data),
            BinaryPrimitives.ReadUInt64BigEndian(data[8..]),
            BinaryPrimitives.ReadUInt64BigEndian(data[16..]));
        return true;
    }

    /// <summary>Encodes.</summary>
    public byte[] ToBytes()
    {
        byte[] data = new byte[Size];
        BinaryPrimitives.WriteUInt32BigEndian(data, Count);
        BinaryPrimitives.WriteUInt64BigEndian(data.AsSpan(8), DirectorySize);
        BinaryPrimitives.WriteUInt64BigEndian(data.AsSpan(16), DirectoryOffset);
        return data;
    }
}
