using System.Buffers.Binary;

namespace BlockMount.Interop.Hostile;

/// <summary>The bytes of a valid image that is about to become a hostile one. Offsets are host offsets in bytes; values are big-endian.</summary>
internal sealed class ImageBytes(byte[] bytes)
{
    private const ulong OffsetMask = 0x00ff_ffff_ffff_fe00;

    internal byte[] Bytes { get; private set; } = bytes;

    /// <summary>Length of the file that is written; what <see cref="Bytes"/> lacks is a hole.</summary>
    internal long FileLength { get; set; } = bytes.Length;

    internal int ClusterSize => 1 << (int)U32(20);

    internal long L1 => (long)U64(40);

    internal long RefcountTable => (long)U64(48);

    internal long RefcountBlock => (long)U64(RefcountTable);

    internal long Snapshots => (long)U64(64);

    /// <summary>The first L2 table.</summary>
    internal long L2 => (long)(U64(L1) & OffsetMask);

    /// <summary>The cluster that the first L2 entry names.</summary>
    internal long Data => (long)(U64(L2) & OffsetMask);

    internal uint U32(long offset) => BinaryPrimitives.ReadUInt32BigEndian(Bytes.AsSpan((int)offset));

    internal ulong U64(long offset) => BinaryPrimitives.ReadUInt64BigEndian(Bytes.AsSpan((int)offset));

    internal ImageBytes Set16(long offset, int value)
    {
        BinaryPrimitives.WriteUInt16BigEndian(Bytes.AsSpan((int)offset), (ushort)value);
        return this;
    }

    internal ImageBytes Set32(long offset, uint value)
    {
        BinaryPrimitives.WriteUInt32BigEndian(Bytes.AsSpan((int)offset), value);
        return this;
    }

    internal ImageBytes Set64(long offset, ulong value)
    {
        BinaryPrimitives.WriteUInt64BigEndian(Bytes.AsSpan((int)offset), value);
        return this;
    }

    /// <summary>Fills a table with one entry over and over.</summary>
    internal ImageBytes Fill64(long offset, int count, ulong value)
    {
        for (int i = 0; i < count; i++)
        {
            Set64(offset + (i * 8L), value);
        }

        return this;
    }

    internal ImageBytes SetText(long offset, string text)
    {
        System.Text.Encoding.UTF8.GetBytes(text).CopyTo(Bytes, offset);
        return this;
    }

    internal ImageBytes Put(long offset, ReadOnlySpan<byte> content)
    {
        content.CopyTo(Bytes.AsSpan((int)offset));
        return this;
    }

    /// <summary>Makes the image longer (zeros) or shorter.</summary>
    internal ImageBytes Resize(int length)
    {
        byte[] resized = new byte[length];
        Bytes.AsSpan(0, Math.Min(length, Bytes.Length)).CopyTo(resized);
        Bytes = resized;
        FileLength = length;
        return this;
    }

    /// <summary>Offset of the first header extension of a type; the image must have it.</summary>
    internal long Extension(uint type)
    {
        long offset = U32(100);
        while (U32(offset) != type)
        {
            if (U32(offset) == 0)
            {
                throw new InvalidOperationException($"the image has no extension {type:x}");
            }

            offset += 8 + ((U32(offset + 4) + 7) & ~7);
        }

        return offset;
    }

    /// <summary>
    /// Writes the header's extensions anew: the given one and the end marker right behind the fixed header, then the backing file's name if there is one.
    /// </summary>
    internal ImageBytes OnlyExtension(uint type, string data, string? backing = null)
    {
        long offset = U32(100);
        Bytes.AsSpan((int)offset, ClusterSize - (int)offset).Clear();
        byte[] text = System.Text.Encoding.UTF8.GetBytes(data);
        Set32(offset, type).Set32(offset + 4, (uint)text.Length).Put(offset + 8, text);
        long name = offset + 8 + ((text.Length + 7) & ~7) + 8;
        if (backing is not null)
        {
            byte[] bytes = System.Text.Encoding.UTF8.GetBytes(backing);
            Set64(8, (ulong)name).Set32(16, (uint)bytes.Length).Put(name, bytes);
        }

        return this;
    }

    internal void Save(string path)
    {
        File.WriteAllBytes(path, Bytes);
        if (FileLength != Bytes.Length)
        {
            using FileStream stream = new(path, FileMode.Open, FileAccess.Write);
            stream.SetLength(FileLength);
        }
    }
}
