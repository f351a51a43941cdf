using System.Collections.Concurrent;
using BlockMount.Base;
using BlockMount.Base.Interop;

namespace BlockMount.Formats.Qcow2.Compression;

/// <summary>
/// Compression type 1: one or more zstd frames until the cluster is full. Contexts are reused: making one costs more than
/// expanding a cluster of 64 KiB.
/// </summary>
internal sealed unsafe class ZstdCodec : ClusterDecompressor
{
    // A frame may ask for a window of its size or more; 8 MiB is four of the largest clusters, and keeps a hostile image
    // from costing 128 MiB a context.
    private const int WindowBitsMax = 23;

    private readonly ConcurrentBag<nint> _idle = [];

    public ZstdCodec()
    {
        try
        {
            _idle.Add(CreateContext());
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
    public override void Decompress(ReadOnlySpan<byte> stream, Span<byte> cluster, string where)
    {
        if (!_idle.TryTake(out nint context))
        {
            context = CreateContext();
        }

        try
        {
            Expand(context, stream, cluster, where);
        }
        finally
        {
            // Whatever the session came to, the next cluster starts a new one.
            LibZstd.ZSTD_DCtx_reset(context, LibZstd.ZSTD_reset_session_only);
            _idle.Add(context);
        }
    }

    /// <inheritdoc/>
    public override void Dispose()
    {
        while (_idle.TryTake(out nint context))
        {
            LibZstd.ZSTD_freeDCtx(context);
        }
    }

    private static nint CreateContext()
    {
        nint context = LibZstd.ZSTD_createDCtx();
        if (context == 0)
        {
            throw new BlockIOException(Errno.ENOMEM, "making a zstd context");
        }

        LibZstd.ZSTD_DCtx_setParameter(context, LibZstd.ZSTD_d_windowLogMax, WindowBitsMax);
        return context;
    }

    private static void Expand(nint context, ReadOnlySpan<byte> stream, Span<byte> cluster, string where)
    {
        fixed (byte* source = stream)
        fixed (byte* target = cluster)
        {
            ZstdBuffer input = new() { Start = source, Size = (nuint)stream.Length };
            ZstdBuffer output = new() { Start = target, Size = (nuint)cluster.Length };
            while (output.Position < output.Size)
            {
                (nuint inputBefore, nuint outputBefore) = (input.Position, output.Position);
                nuint result = LibZstd.ZSTD_decompressStream(context, &output, &input);
                if (LibZstd.ZSTD_isError(result) != 0)
                {
                    throw Damaged(where, cluster.Length, LibZstd.DescribeError(result));
                }

                if (input.Position == inputBefore && output.Position == outputBefore)
                {
                    throw Damaged(where, cluster.Length, $"the stream ends after {output.Position} bytes");
                }
            }
        }
    }

    private static BlockIOException Damaged(string where, int length, string why) => new(
        Errno.EIO,
        $"{where} does not expand to {length} bytes (damaged zstd stream: {why})",
        "The image is damaged: restore it from a backup, or look at it with 'qemu-img check'");
}
