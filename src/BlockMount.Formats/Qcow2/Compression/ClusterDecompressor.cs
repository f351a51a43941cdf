namespace BlockMount.Formats.Qcow2.Compression;

/// <summary>Turns the compressed stream of one cluster into its guest bytes. Thread-safe.</summary>
public abstract class ClusterDecompressor
{
    /// <summary>The decompressor for a header's compression type: 0 deflate, 1 zstd (the header reader admits no other).</summary>
    public static ClusterDecompressor For(byte compressionType) => compressionType switch
    {
        0 => new DeflateCodec(),
        _ => throw new System.Diagnostics.UnreachableException(),
    };

    /// <summary>
    /// Fills <paramref name="cluster"/> (one whole cluster) from <paramref name="compressed"/>, which may have garbage behind the stream.
    /// </summary>
    /// <exception cref="Base.BlockIOException">EIO: the stream is damaged or too short.</exception>
    public abstract void Decompress(ReadOnlySpan<byte> compressed, Span<byte> cluster);
}
