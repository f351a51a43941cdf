using System.IO.Compression;
using BlockMount.Base;

namespace BlockMount.Formats.Qcow2.Compression;

/// <summary>Compression type 0: a raw deflate stream (FEATURES F23). Thread-safe.</summary>
public sealed class DeflateCodec : ClusterDecompressor
{
    /// <inheritdoc/>
    public override void Decompress(ReadOnlySpan<byte> compressed, Span<byte> cluster)
    {
        try
        {
            using MemoryStream source = new(compressed.ToArray(), writable: false);
            using DeflateStream inflate = new(source, CompressionMode.Decompress);
            inflate.ReadExactly(cluster);
        }
        catch (Exception e) when (e is InvalidDataException or EndOfStreamException)
        {
            throw new BlockIOException(Errno.EIO, "decompression of a cluster", "The image is damaged: run 'qemu-img check' on it", e);
        }
    }
}
