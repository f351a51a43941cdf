using System.Runtime.InteropServices;

namespace BlockMount.Base.Interop;

/// <summary>
/// The compressing half of zlib (zlib.h, ABI of version 1). The runtime's own deflate cannot limit the window, and qcow2 asks for 4 KiB.
/// The library is loaded at the first call, which throws <see cref="DllNotFoundException"/> where it is not installed.
/// </summary>
public static unsafe partial class LibZ
{
    private const string Library = "libz.so.1";

    public const int Z_OK = 0;
    public const int Z_STREAM_END = 1;
    public const int Z_FINISH = 4;
    public const int Z_DEFLATED = 8;
    public const int Z_DEFAULT_COMPRESSION = -1;
    public const int Z_DEFAULT_STRATEGY = 0;

    [LibraryImport(Library)]
    internal static partial int deflateInit2_(
        ZStream* stream, int level, int method, int windowBits, int memLevel, int strategy, byte* version, int streamSize);

    [LibraryImport(Library)]
    internal static partial int deflate(ZStream* stream, int flush);

    [LibraryImport(Library)]
    internal static partial int deflateReset(ZStream* stream);

    [LibraryImport(Library)]
    internal static partial int deflateEnd(ZStream* stream);
}

/// <summary>z_stream of a 64-bit Linux. zlib keeps a pointer to it, so it must not move while a stream is open.</summary>
[StructLayout(LayoutKind.Sequential)]
public unsafe struct ZStream
{
    public byte* NextIn;
    public uint AvailableIn;
    public nuint TotalIn;
    public byte* NextOut;
    public uint AvailableOut;
    public nuint TotalOut;
    public nint Message;
    public nint State;
    public nint Allocate;
    public nint Free;
    public nint Opaque;
    public int DataType;
    public nuint Adler;
    public nuint Reserved;
}

/// <summary>A deflate context for raw streams (RFC 1951). One thread at a time; freed on disposal or by the finalizer.</summary>
public sealed unsafe class DeflateContext : SafeHandle
{
    private const int MemoryLevelMax = 9;

    private DeflateContext(ZStream* stream)
        : base(invalidHandleValue: 0, ownsHandle: true)
    {
        SetHandle((nint)stream);
    }

    /// <inheritdoc/>
    public override bool IsInvalid => handle == 0;

    /// <summary>Makes a context whose streams look back at most 2^<paramref name="windowBits"/> bytes (9 to 15).</summary>
    /// <exception cref="BlockIOException">ENOMEM.</exception>
    /// <exception cref="DllNotFoundException">The library is not installed.</exception>
    public static DeflateContext Create(int windowBits)
    {
        ZStream* stream = (ZStream*)NativeMemory.AllocZeroed((nuint)sizeof(ZStream));
        bool ready = false;
        try
        {
            // zlib compares the first character of the version only; a negative window asks for a raw stream.
            byte* version = stackalloc byte[] { (byte)'1', 0 };
            int result = LibZ.deflateInit2_(
                stream, LibZ.Z_DEFAULT_COMPRESSION, LibZ.Z_DEFLATED, -windowBits, MemoryLevelMax, LibZ.Z_DEFAULT_STRATEGY, version, sizeof(ZStream));
            ready = result == LibZ.Z_OK;
            return ready ? new DeflateContext(stream) : throw new BlockIOException(Errno.ENOMEM, $"making a deflate context (zlib error {result})");
        }
        finally
        {
            if (!ready)
            {
                NativeMemory.Free(stream);
            }
        }
    }

    /// <summary>Compresses <paramref name="source"/> (not empty) into one whole stream.</summary>
    /// <returns>Bytes of the stream; 0 if it does not fit into <paramref name="target"/>.</returns>
    public int Compress(ReadOnlySpan<byte> source, Span<byte> target)
    {
        ZStream* stream = (ZStream*)handle;
        // Whatever the last cluster came to.
        _ = LibZ.deflateReset(stream);
        int result;
        fixed (byte* input = source)
        fixed (byte* output = target)
        {
            stream->NextIn = input;
            stream->AvailableIn = (uint)source.Length;
            stream->NextOut = output;
            stream->AvailableOut = (uint)target.Length;
            result = LibZ.deflate(stream, LibZ.Z_FINISH);
        }

        int length = target.Length - (int)stream->AvailableOut;
        stream->NextIn = null;
        stream->NextOut = null;
        GC.KeepAlive(this);
        return result == LibZ.Z_STREAM_END ? length : 0;
    }

    /// <inheritdoc/>
    protected override bool ReleaseHandle()
    {
        _ = LibZ.deflateEnd((ZStream*)handle);
        NativeMemory.Free((void*)handle);
        return true;
    }
}
