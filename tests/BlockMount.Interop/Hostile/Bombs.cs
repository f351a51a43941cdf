using System.Buffers.Binary;
using System.IO.Compression;

namespace BlockMount.Interop.Hostile;

/// <summary>Streams that expand to 64 MiB and more.</summary>
internal static class Bombs
{
    private const int ExpandedBytes = 64 << 20;

    /// <summary>A raw deflate stream of zeros.</summary>
    internal static byte[] Deflate()
    {
        using MemoryStream stream = new();
        using (DeflateStream deflate = new(stream, CompressionLevel.SmallestSize))
        {
            deflate.Write(new byte[ExpandedBytes]);
        }

        return stream.ToArray();
    }

    /// <summary>
    /// A zstd frame of run-length blocks, each of which expands four bytes to 128 KiB (RFC 8878, sections 3.1.1.1 and 3.1.1.2): no checksum, no content
    /// size, a window of 8 MiB.
    /// </summary>
    internal static byte[] Zstd()
    {
        const int BlockBytes = 128 << 10;
        const int RunLength = 1;
        List<byte> frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 13 << 3];
        byte[] header = new byte[4];
        for (int i = 0; i < ExpandedBytes / BlockBytes; i++)
        {
            bool last = i == (ExpandedBytes / BlockBytes) - 1;
            BinaryPrimitives.WriteInt32LittleEndian(header, (BlockBytes << 3) | (RunLength << 1) | (last ? 1 : 0));
            frame.AddRange(header.AsSpan(0, 3));
            frame.Add(0x55);
        }

        return [.. frame];
    }
}
