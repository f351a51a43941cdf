using System.Collections.Concurrent;
using BlockMount.Base;
using BlockMount.Base.Interop;

namespace BlockMount.Formats.Qcow2.Compression;

/// <summary>
/// Compression type 1: one or more zstd frames until the cluster is full. Contexts are reused: making one costs more than
/// expanding a cluster of 64 KiB. An idle context is freed with the codec, by its finalizer.
/// </summary>
public sealed unsafe class ZstdCodec : ClusterDecompressor
{
    // A frame may ask for a window of its size or more; 8 MiB is four of the largest clusters, and keeps a hostile image
    // from costing 128 MiB a context.
    private const int WindowBitsMax = 23;

    private readonly ConcurrentBag<ZstdContext> _idle = [];

    /// <summary>Loads the library.</summary>
    /// <exception cref="BlockMountException">It is not installed.</exception>
    public ZstdCodec()
    {
        try
        {
            _idle.Add(ZstdContext.Create(WindowBitsMax));
        }
        catch (Exception e) when (e is DllNotFoundException or EntryPointNotFoundException)
        {
            throw new BlockMountException(
                "The image has zstd compressed clusters, and the library libzstd.so.1 cannot be loaded",
                "Install it, as with 'apt-get install libzstd1'",
                e);
        }
    }

    /// <inheritdoc/>
    public override void Decompress(ReadOnlySpan<byte> compressed, Span<byte> cluster)
    {
        if (!_idle.TryTake(out ZstdContext? context))
        {
            context = ZstdContext.Create(WindowBitsMax);
        }

        try
        {
            Expand(context, compressed, cluster);
        }
        finally
        {
            // Whatever the session came to, the next cluster starts a new one.
            context.Reset();
            _idle.Add(context);
        }
    }

    private static void Expand(ZstdContext context, ReadOnlySpan<byte> compressed, Span<byte> cluster)
    {
        fixed (byte* source = compressed)
        fixed (byte* target = cluster)
        {
            ZstdBuffer input = new() { Start = source, Size = (nuint)compressed.Length };
            ZstdBuffer output = new() { Start = target, Size = (nuint)cluster.Length };
            while (output.Position < output.Size)
            {
                (nuint inputBefore, nuint outputBefore) = (input.Position, output.Position);
                nuint result = context.DecompressStream(&output, &input);
                if (LibZstd.ZSTD_isError(result) != 0)
                {
                    throw new InvalidDataException($"damaged zstd stream: {LibZstd.DescribeError(result)}");
                }

                if (input.Position == inputBefore && output.Position == outputBefore)
                {
                    throw new InvalidDataException($"the zstd stream ends after {output.Position} of {cluster.Length} bytes");
                }
            }
        }
    }
}
