using System.Buffers.Binary;
using System.Runtime.InteropServices;

namespace BlockMount.Formats.Qcow2.Metadata;

/// <summary>
/// A cached piece of an L2 table or refcount block, kept in the byte order of the disk. Reading an L2 entry is one atomic load, so
/// lookups take no lock; an entry of two words is read again if it changed meanwhile. Changed only by the holder of the image's metadata mutex.
/// </summary>
public sealed class MetadataSlice
{
    private readonly ulong[] _words;

    // Odd while an entry of two words is being changed.
    private int _sequence;

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

    /// <summary>Reads entry <paramref name="index"/> of two words, both as they were at one instant. Waits for a writer for a few instructions at most.</summary>
    public (ulong First, ulong Second) ReadWideEntry(int index)
    {
        SpinWait spin = default;
        while (true)
        {
            // Acquiring loads: none of them moves before the one above it.
            int before = Volatile.Read(ref _sequence);
            ulong first = Volatile.Read(ref _words[2 * index]);
            ulong second = Volatile.Read(ref _words[(2 * index) + 1]);
            if ((before & 1) == 0 && Volatile.Read(ref _sequence) == before)
            {
                return (BinaryPrimitives.ReverseEndianness(first), BinaryPrimitives.ReverseEndianness(second));
            }

            spin.SpinOnce();
        }
    }

    /// <summary>Writes entry <paramref name="index"/> of two words, for readers as one. The slice is dirty already.</summary>
    internal void WriteWideEntry(int index, ulong first, ulong second)
    {
        // A full fence: the words must not change before the number is odd.
        Interlocked.Increment(ref _sequence);
        Volatile.Write(ref _words[2 * index], BinaryPrimitives.ReverseEndianness(first));
        Volatile.Write(ref _words[(2 * index) + 1], BinaryPrimitives.ReverseEndianness(second));
        Volatile.Write(ref _sequence, _sequence + 1);
    }
}
