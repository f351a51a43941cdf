using System.Diagnostics;

namespace BlockMount.Formats.Qcow2.Compression;

/// <summary>
/// Expands compressed clusters. One object serves a whole image; any thread, concurrently.
/// </summary>
public abstract class ClusterDecompressor : IDisposable
{
    /// <summary>
    /// The codec for a header's compression type (validated: 0 deflate, 1 zstd). Fails here, at open, and not at the first
    /// read if the codec is not installed.
    /// </summary>
    /// <exception cref="Base.BlockMountException">The codec's library is missing; the hint says what to install.</exception>
    public static ClusterDecompressor Create(byte compressionType) => compressionType switch
    {
        0 => new DeflateCodec(),
        1 => new ZstdCodec(),
        _ => throw new UnreachableException($"compression type {compressionType} was not refused"),
    };

    /// <summary>
    /// Expands one cluster. The stream begins at the first byte of <paramref name="stream"/>; what follows its end is ignored
    /// (L2 entries give lengths in sectors of 512 bytes), and so is output past the cluster.
    /// </summary>
    /// <param name="cluster">Filled completely; undefined after an error.</param>
    /// <param name="where">For the message, as "the compressed cluster at 65536 in 'a.qcow2'".</param>
    /// <exception cref="Base.BlockIOException">EIO: the stream is damaged or ends before the cluster is full.</exception>
    public abstract void Decompress(ReadOnlySpan<byte> stream, Span<byte> cluster, string where);

    /// <summary>Frees native memory. No call may be running.</summary>
    public abstract void Dispose();
}
