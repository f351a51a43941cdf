using System.Runtime.InteropServices;

namespace BlockMount.Base.Interop;

/// <summary>
/// libzstd (zstd.h, stable API since 1.4). The library is loaded at the first call, which throws
/// <see cref="DllNotFoundException"/> where it is not installed.
/// </summary>
public static unsafe partial class LibZstd
{
    private const string Library = "libzstd.so.1";

    /// <summary>ZSTD_d_windowLogMax of ZSTD_dParameter.</summary>
    public const int ZSTD_d_windowLogMax = 100;

    /// <summary>ZSTD_reset_session_only of ZSTD_ResetDirective.</summary>
    public const int ZSTD_reset_session_only = 1;

    /// <summary>Returns 0 when memory is short.</summary>
    [LibraryImport(Library)]
    internal static partial nint ZSTD_createDCtx();

    [LibraryImport(Library)]
    internal static partial nuint ZSTD_freeDCtx(nint context);

    [LibraryImport(Library)]
    internal static partial nuint ZSTD_DCtx_setParameter(nint context, int parameter, int value);

    [LibraryImport(Library)]
    internal static partial nuint ZSTD_DCtx_reset(nint context, int directive);

    [LibraryImport(Library)]
    internal static partial nuint ZSTD_decompressStream(nint context, ZstdBuffer* output, ZstdBuffer* input);

    /// <summary>Returns 0 when memory is short.</summary>
    [LibraryImport(Library)]
    internal static partial nint ZSTD_createCCtx();

    [LibraryImport(Library)]
    internal static partial nuint ZSTD_freeCCtx(nint context);

    [LibraryImport(Library)]
    internal static partial nuint ZSTD_compress2(nint context, byte* target, nuint capacity, byte* source, nuint length);

    [LibraryImport(Library)]
    public static partial uint ZSTD_isError(nuint code);

    [LibraryImport(Library)]
    private static partial nint ZSTD_getErrorName(nuint code);

    /// <summary>Words for an error code.</summary>
    public static string DescribeError(nuint code) => Marshal.PtrToStringUTF8(ZSTD_getErrorName(code)) ?? "unknown error";
}

/// <summary>A decompression context. One thread at a time; freed on disposal or by the finalizer.</summary>
public sealed unsafe class ZstdContext : SafeHandle
{
    private ZstdContext(nint context)
        : base(invalidHandleValue: 0, ownsHandle: true)
    {
        SetHandle(context);
    }

    /// <inheritdoc/>
    public override bool IsInvalid => handle == 0;

    /// <summary>Makes a context that refuses frames with windows of more than 2^<paramref name="windowBitsMax"/> bytes.</summary>
    /// <exception cref="BlockIOException">ENOMEM.</exception>
    /// <exception cref="DllNotFoundException">The library is not installed.</exception>
    public static ZstdContext Create(int windowBitsMax)
    {
        nint context = LibZstd.ZSTD_createDCtx();
        if (context == 0)
        {
            throw new BlockIOException(Errno.ENOMEM, "making a zstd context");
        }

        LibZstd.ZSTD_DCtx_setParameter(context, LibZstd.ZSTD_d_windowLogMax, windowBitsMax);
        return new ZstdContext(context);
    }

    /// <summary>Expands what fits. 0 when a frame has ended, an error (<see cref="LibZstd.ZSTD_isError"/>), or a hint that more input is wanted.</summary>
    public nuint DecompressStream(ZstdBuffer* output, ZstdBuffer* input)
    {
        nuint result = LibZstd.ZSTD_decompressStream(handle, output, input);
        GC.KeepAlive(this);
        return result;
    }

    /// <summary>Forgets a frame that was begun.</summary>
    public void Reset()
    {
        LibZstd.ZSTD_DCtx_reset(handle, LibZstd.ZSTD_reset_session_only);
        GC.KeepAlive(this);
    }

    /// <inheritdoc/>
    protected override bool ReleaseHandle()
    {
        LibZstd.ZSTD_freeDCtx(handle);
        return true;
    }
}

/// <summary>A compression context with the library's default level. One thread at a time; freed on disposal or by the finalizer.</summary>
public sealed unsafe class ZstdCompressionContext : SafeHandle
{
    private ZstdCompressionContext(nint context)
        : base(invalidHandleValue: 0, ownsHandle: true)
    {
        SetHandle(context);
    }

    /// <inheritdoc/>
    public override bool IsInvalid => handle == 0;

    /// <summary>Makes a context.</summary>
    /// <exception cref="BlockIOException">ENOMEM.</exception>
    /// <exception cref="DllNotFoundException">The library is not installed.</exception>
    public static ZstdCompressionContext Create()
    {
        nint context = LibZstd.ZSTD_createCCtx();
        return context != 0 ? new ZstdCompressionContext(context) : throw new BlockIOException(Errno.ENOMEM, "making a zstd compression context");
    }

    /// <summary>Compresses <paramref name="source"/> (not empty) into one frame.</summary>
    /// <returns>Bytes of the frame; 0 if it does not fit into <paramref name="target"/>.</returns>
    public int Compress(ReadOnlySpan<byte> source, Span<byte> target)
    {
        nuint result;
        fixed (byte* input = source)
        fixed (byte* output = target)
        {
            result = LibZstd.ZSTD_compress2(handle, output, (nuint)target.Length, input, (nuint)source.Length);
        }

        GC.KeepAlive(this);
        // The one error that is left: too little room, or memory is short. Either way the cluster is stored as it is.
        return LibZstd.ZSTD_isError(result) == 0 ? (int)result : 0;
    }

    /// <inheritdoc/>
    protected override bool ReleaseHandle()
    {
        LibZstd.ZSTD_freeCCtx(handle);
        return true;
    }
}

/// <summary>ZSTD_inBuffer and ZSTD_outBuffer, which have the same layout.</summary>
[StructLayout(LayoutKind.Sequential)]
public unsafe struct ZstdBuffer
{
    public byte* Start;
    public nuint Size;
    public nuint Position;
}
