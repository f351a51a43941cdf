using System.Buffers.Binary;
using BlockMount.TestSupport;

namespace BlockMount.Tests.Formats.Qcow2;

/// <summary>
/// Reads and damages single entries of an image in memory that may be open meanwhile: every call goes to the file as it is then, by what its header says.
/// Knows standard L2 entries and 16-bit refcounts. (ImageSurgeon works on a copy, and knows all formats.)
/// </summary>
internal sealed class LiveImageSurgeon(MemoryFile file)
{
    internal const ulong Copied = 1UL << 63;
    internal const ulong Compressed = 1UL << 62;
    private const ulong OffsetMask = 0x00ff_ffff_ffff_fe00;

    internal int ClusterSize => 1 << (int)U32(20);

    internal long L1 => (long)U64(40);

    internal long RefcountTable => (long)U64(48);

    internal long SnapshotTable => (long)U64(64);

    /// <summary>The incompatible feature bits.</summary>
    internal ulong Incompatible => U64(72);

    internal long RefcountBlock(int index = 0) => (long)(U64(RefcountTable + (index * 8)) & OffsetMask);

    internal long L2(int index = 0) => (long)(U64(L1 + (index * 8)) & OffsetMask);

    /// <summary>Host offset of a data cluster.</summary>
    internal long Data(int guestCluster) => (long)(U64(L2() + (guestCluster * 8)) & OffsetMask);

    internal long SnapshotL1 => (long)U64(SnapshotTable);

    internal long SnapshotL2 => (long)(U64(SnapshotL1) & OffsetMask);

    internal void SetL1(int index, ulong entry) => Write(L1 + (index * 8), entry);

    internal void SetL2(int guestCluster, ulong entry) => Write(L2() + (guestCluster * 8), entry);

    internal void SetRefcountTable(int index, ulong entry) => Write(RefcountTable + (index * 8), entry);

    internal void SetRefcount(long hostOffset, ushort refcount)
    {
        byte[] bytes = new byte[2];
        BinaryPrimitives.WriteUInt16BigEndian(bytes, refcount);
        Put(RefcountBlock() + (hostOffset / ClusterSize * 2), bytes);
    }

    /// <summary>The content of a header extension; empty if there is none.</summary>
    internal byte[] Extension(uint type)
    {
        long at = U32(100);
        while (U32(at) is not 0 and uint found)
        {
            int length = (int)U32(at + 4);
            if (found == type)
            {
                return file.Content.Slice((int)at + 8, length).ToArray();
            }

            at += 8 + ((length + 7) & ~7);
        }

        return [];
    }

    internal ulong U64(long offset) => BinaryPrimitives.ReadUInt64BigEndian(file.Content[(int)offset..]);

    private uint U32(long offset) => BinaryPrimitives.ReadUInt32BigEndian(file.Content[(int)offset..]);

    private void Write(long offset, ulong value)
    {
        byte[] bytes = new byte[8];
        BinaryPrimitives.WriteUInt64BigEndian(bytes, value);
        Put(offset, bytes);
    }

    // In memory: it completes at once.
    private void Put(long offset, byte[] bytes) => file.WriteAsync(offset, bytes).AsTask().GetAwaiter().GetResult();
}
