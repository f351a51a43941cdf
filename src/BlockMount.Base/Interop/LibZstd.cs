using System.Runtime.InteropServices;

namespace BlockMount.Base.Interop;

/// <summary>
/// The decompressing half of libzstd (zstd.h, stable API since 1.4). The library is loaded at the first call, which throws
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
    public static partial nint ZSTD_createDCtx();

    [LibraryImport(Library)]
    public static partial nuint ZSTD_freeDCtx(nint context);

    [LibraryImport(Library)]
    public static partial nuint ZSTD_DCtx_setParameter(nint context, int parameter, int value);

    [LibraryImport(Library)]
    public static partial nuint ZSTD_DCtx_reset(nint context, int directive);

    /// <summary>0 when a frame has ended, an error (<see cref="ZSTD_isError"/>), or a hint that more input is wanted.</summary>
    [LibraryImport(Library)]
    public static partial nuint ZSTD_decompressStream(nint context, ZstdBuffer* output, ZstdBuffer* input);

    [LibraryImport(Library)]
    public static partial uint ZSTD_isError(nuint code);

    [LibraryImport(Library)]
    private static partial nint ZSTD_getErrorName(nuint code);

    /// <summary>Words for an error code.</summary>
    public static string DescribeError(nuint code) => Marshal.PtrToStringUTF8(ZSTD_getErrorName(code)) ?? "unknown error";
}

/// <summary>ZSTD_inBuffer and ZSTD_outBuffer, which have the same layout.</summary>
[StructLayout(LayoutKind.Sequential)]
public unsafe struct ZstdBuffer
{
    public byte* Start;
    public nuint Size;
    public nuint Position;
}
