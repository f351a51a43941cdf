using System.IO.Compression;
using BlockMount.Base;

namespace BlockMount.Formats.Qcow2.Compression;

/// <summary>Compression type 0: a raw deflate stream without zlib header (RFC 1951), windows of any size.</summary>
internal sealed class DeflateCodec : ClusterDecompressor
{
    /// <inheritdoc/>
    public override unsafe void Decompress(ReadOnlySpan<byte> stream, Span<byte> cluster, string where)
    {
        fixed (byte* start = stream)
        {
            using UnmanagedMemoryStream source = new(start, stream.Length);
            using DeflateStream inflate = new(source, CompressionMode.Decompress);
            try
            {
                inflate.ReadExactly(cluster);
            }
            catch (Exception e) when (e is InvalidDataException or EndOfStreamException)
            {
                throw new BlockIOException(
                    Errno.EIO,
                    $"{where} does not expand to {cluster.Length} bytes (damaged deflate stream)",
                    "The image is damaged: restore it from a backup, or look at it with 'qemu-img check'",
                    e);
            }
        }
    }

    /// <inheritdoc/>
    public override void Dispose()
    {
        // Every call frees what it used.
    }
}
