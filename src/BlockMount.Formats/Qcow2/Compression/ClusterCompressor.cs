using System.Collections.Concurrent;
using System.Diagnostics;
using BlockMount.Base;
using BlockMount.Base.Interop;

namespace BlockMount.Formats.Qcow2.Compression;

/// <summary>
/// Compresses clusters. One object serves a whole image; any thread, concurrently. Contexts are reused: making one costs more than
/// compressing a small cluster. An idle context is freed with the compressor, by its finalizer.
/// </summary>
public abstract class ClusterCompressor
{
    /// <summary>The compressor for a header's compression type: 0 deflate, 1 zstd (the header reader admits no other).</summary>
    /// <exception cref="BlockMountException">The codec's library is missing; the hint says what to install.</exception>
    public static ClusterCompressor For(byte compressionType) => compressionType switch
    {
        0 => new DeflateCompressor(),
        1 => new ZstdCompressor(),
        _ => throw new UnreachableException($"compression type {compressionType} was not refused"),
    };

    /// <summary>
    /// Compresses one whole cluster into one stream at the start of <paramref name="target"/>.
    /// </summary>
    /// <returns>Bytes of the stream; 0 if it does not fit: then the cluster is better stored as it is.</returns>
    public abstract int Compress(ReadOnlySpan<byte> cluster, Span<byte> target);

    private static BlockMountException Missing(string codec, string library, string package, Exception reason) => new(
        $"Writing {codec} compressed clusters needs the library {library}, which cannot be loaded",
        $"Install it, as with 'apt-get install {package}'",
        reason);

    /// <summary>Compression type 0: raw deflate. Readers may have a window of 4 KiB only (qcow2 specification, "Compressed Clusters Descriptor").</summary>
    private sealed class DeflateCompressor : ClusterCompressor
    {
        private const int WindowBits = 12;

        private readonly ConcurrentBag<DeflateContext> _idle = [];

        internal DeflateCompressor()
        {
            try
            {
                _idle.Add(DeflateContext.Create(WindowBits));
            }
            catch (Exception e) when (e is DllNotFoundException or EntryPointNotFoundException)
            {
                throw Missing("zlib", "libz.so.1", "zlib1g", e);
            }
        }

        public override int Compress(ReadOnlySpan<byte> cluster, Span<byte> target)
        {
            if (!_idle.TryTake(out DeflateContext? context))
            {
                context = DeflateContext.Create(WindowBits);
            }

            int length = context.Compress(cluster, target);
            _idle.Add(context);
            return length;
        }
    }

    /// <summary>Compression type 1: one zstd frame.</summary>
    private sealed class ZstdCompressor : ClusterCompressor
    {
        private readonly ConcurrentBag<ZstdCompressionContext> _idle = [];

        internal ZstdCompressor()
        {
            try
            {
                _idle.Add(ZstdCompressionContext.Create());
            }
            catch (Exception e) when (e is DllNotFoundException or EntryPointNotFoundException)
            {
                throw Missing("zstd", "libzstd.so.1", "libzstd1", e);
            }
        }

        public override int Compress(ReadOnlySpan<byte> cluster, Span<byte> target)
        {
            if (!_idle.TryTake(out ZstdCompressionContext? context))
            {
                context = ZstdCompressionContext.Create();
            }

            int length = context.Compress(cluster, target);
            _idle.Add(context);
            return length;
        }
    }
}
