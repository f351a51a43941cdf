using System.IO.Compression;

namespace BlockMount.Formats.Qcow2.Compression;

/// <summary>Compression type 0: a raw deflate stream without zlib header (RFC 1951), with windows of any size.</summary>
public sealed class DeflateCodec : ClusterDecompressor
{
    /// <inheritdoc/>
    public override unsafe void Decompress(ReadOnlySpan<byte> compressed, Span<byte> cluster)
    {
        if (compressed.IsEmpty)
        {
            throw new InvalidDataException("the deflate stream is empty");
        }

        fixed (byte* start = compressed)
        {
            using UnmanagedMemoryStream source = new(start, compressed.Length);
            using DeflateStream inflate = new(source, CompressionMode.Decompress);
            try
            {
                inflate.ReadExactly(cluster);
            }
            catch (EndOfStreamException e)
            {
                throw new InvalidDataException($"the deflate stream does not expand to {cluster.Length} bytes", e);
            }
        }
    }
}
