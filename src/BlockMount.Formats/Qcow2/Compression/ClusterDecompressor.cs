using System.Diagnostics;

namespace BlockMount.Formats.Qcow2.Compression;

/// <summary>Expands compressed clusters. One object serves a whole image; any thread, concurrently.</summary>
public abstract class ClusterDecompressor
{
    /// <summary>
    /// The decompressor for a header's compression type: 0 deflate, 1 zstd (the header reader admits no other). Fails here, at
    /// open, and not at the first read if the codec is not installed.
    /// </summary>
    /// <exception cref="Base.BlockMountException">The codec's library is missing; the hint says what to install.</exception>
    public static ClusterDecompressor For(byte compressionType) => compressionType switch
    {
        0 => new DeflateCodec(),
        1 => new ZstdCodec(),
        _ => throw new UnreachableException($"compression type {compressionType} was not refused"),
    };

    /// <summary>
    /// Fills <paramref name="cluster"/> (one whole cluster) from <paramref name="compressed"/>, which begins with the stream
    /// and may have garbage behind it, because L2 entries give lengths in sectors. Output past the cluster is ignored.
    /// </summary>
    /// <exception cref="InvalidDataException">
    /// The stream is damaged or ends before the cluster is full; the message says why. <see cref="CompressedClusters"/>, which
    /// knows the place, makes an EIO of it.
    /// </exception>
    public abstract void Decompress(ReadOnlySpan<byte> compressed, Span<byte> cluster);
}
