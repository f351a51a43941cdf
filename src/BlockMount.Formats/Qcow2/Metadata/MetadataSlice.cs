using System.Buffers.Binary;
using System.Runtime.InteropServices;

namespace BlockMount.Formats.Qcow2.Metadata;

/// <summary>
/// A cached piece of an L2 table or refcount block, kept in the byte order of the disk. Reading an L2 entry is one atomic load, so
/// lookups take no lock. Changed only by the holder of the image's metadata mutex.
/// </summary>
public sealed class MetadataSlice
{
    private readonly ulong[] _words;

    internal MetadataSlice(long hostOffset, int size)
    {
        HostOffset = hostOffset;
        _words = new ulong[size / sizeof(ulong)];
    }

    /// <summary>Where the slice lies in the image file.</summary>
    public long HostOffset { get; }

    /// <summary>The slice as it is on disk. For the holder of the metadata mutex, or before the slice is published.</summary>
    internal Span<byte> Bytes => MemoryMarshal.AsBytes(_words.AsSpan());

    /// <summary>Used since the eviction hand last passed.</summary>
    internal bool Referenced { get; set; }

    /// <summary>Guarded by the metadata mutex and by the cache's gate.</summary>
    internal bool Dirty { get; set; }

    /// <summary>Reads the 64-bit entry <paramref name="index"/> atomically.</summary>
    public ulong ReadEntry(int index) => BinaryPrimitives.ReverseEndianness(Volatile.Read(ref _words[index]));

    /// <summary>Writes the 64-bit entry <paramref name="index"/> atomically. The slice is dirty already.</summary>
    internal void WriteEntry(int index, ulong value) => Volatile.Write(ref _words[index], BinaryPrimitives.ReverseEndianness(value));
}
