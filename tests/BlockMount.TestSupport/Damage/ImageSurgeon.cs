using System.Buffers.Binary;

namespace BlockMount.TestSupport.Damage;

/// <summary>
/// Changes single fields of a small qcow2 image in memory, independently of the code under test (qcow2 specification). Offsets are host offsets in bytes,
/// guest clusters are numbered from 0. Trusts the image: damage comes last.
/// </summary>
public sealed class ImageSurgeon
{
    /// <summary>Bit 63 of L1 and L2 entries.</summary>
    public const ulong Copied = 1UL << 63;

    /// <summary>Bit 62 of L2 entries.</summary>
    public const ulong Compressed = 1UL << 62;

    private const ulong OffsetMask = 0x00fffffffffffe00;
    private const uint BitmapsExtension = 0x23852875;

    private byte[] _bytes;

    /// <param name="bytes">The image; copied.</param>
    public ImageSurgeon(ReadOnlySpan<byte> bytes)
    {
        _bytes = bytes.ToArray();
    }

    /// <summary>The image as it is now.</summary>
    public ReadOnlyMemory<byte> Bytes => _bytes;

    /// <summary>Length of the file.</summary>
    public long Length => _bytes.Length;

    public int ClusterBits => (int)U32(20);

    public int ClusterSize => 1 << ClusterBits;

    public int RefcountOrder => U32(4) == 2 ? 4 : (int)U32(96);

    public bool HasSubclusters => U32(4) == 3 && (U64(72) & 16) != 0;

    public int L2EntrySize => HasSubclusters ? 16 : 8;

    public long L1Offset => (long)U64(40);

    public long RefcountTableOffset => (long)U64(48);

    public long SnapshotsOffset => (long)U64(64);

    /// <summary>First byte behind the file, rounded up to a cluster.</summary>
    public long End => (Length + ClusterSize - 1) / ClusterSize * ClusterSize;

    public ulong U64(long offset) => BinaryPrimitives.ReadUInt64BigEndian(_bytes.AsSpan((int)offset));

    public uint U32(long offset) => BinaryPrimitives.ReadUInt32BigEndian(_bytes.AsSpan((int)offset));

    public void SetU64(long offset, ulong value) => BinaryPrimitives.WriteUInt64BigEndian(_bytes.AsSpan((int)offset), value);

    public void SetU32(long offset, uint value) => BinaryPrimitives.WriteUInt32BigEndian(_bytes.AsSpan((int)offset), value);

    public void SetU16(long offset, ushort value) => BinaryPrimitives.WriteUInt16BigEndian(_bytes.AsSpan((int)offset), value);

    public ulong L1(int index) => U64(L1Offset + (index * 8L));

    public void SetL1(int index, ulong value) => SetU64(L1Offset + (index * 8L), value);

    /// <summary>Host offset of the L2 table of an L1 entry.</summary>
    public long L2Table(int l1Index) => (long)(L1(l1Index) & OffsetMask);

    /// <summary>Host offset of the L2 entry of a guest cluster.</summary>
    public long L2Place(int guestCluster)
    {
        int entries = ClusterSize / L2EntrySize;
        return L2Table(guestCluster / entries) + (guestCluster % entries * (long)L2EntrySize);
    }

    public ulong L2(int guestCluster) => U64(L2Place(guestCluster));

    public void SetL2(int guestCluster, ulong value) => SetU64(L2Place(guestCluster), value);

    public ulong Subclusters(int guestCluster) => U64(L2Place(guestCluster) + 8);

    public void SetSubclusters(int guestCluster, ulong value) => SetU64(L2Place(guestCluster) + 8, value);

    /// <summary>Host offset of the data of a guest cluster that is not compressed.</summary>
    public long Data(int guestCluster) => (long)(L2(guestCluster) & OffsetMask);

    public ulong RefcountTable(int index) => U64(RefcountTableOffset + (index * 8L));

    public void SetRefcountTable(int index, ulong value) => SetU64(RefcountTableOffset + (index * 8L), value);

    /// <summary>Refcounts in a block.</summary>
    public int BlockEntries => (ClusterSize * 8) >> RefcountOrder;

    /// <summary>Sets the stored refcount of the cluster at a host offset.</summary>
    public void SetRefcount(long hostOffset, ulong value)
    {
        int cluster = (int)(hostOffset >> ClusterBits);
        Span<byte> block = _bytes.AsSpan((int)(RefcountTable(cluster / BlockEntries) & OffsetMask), ClusterSize);
        int index = cluster % BlockEntries;
        int bits = 1 << RefcountOrder;
        for (int i = 0; i < bits; i++)
        {
            // Below a byte the entries fill it from the low bits up; wider ones are big-endian.
            int bit = bits < 8 ? (index * bits) + i : (index * bits) + (((bits / 8) - 1 - (i / 8)) * 8) + (i % 8);
            byte mask = (byte)(1 << (bit % 8));
            block[bit / 8] = (byte)((value >> i & 1) != 0 ? block[bit / 8] | mask : block[bit / 8] & ~mask);
        }
    }

    /// <summary>Host offset of the entry of a snapshot in the snapshot table.</summary>
    public long Snapshot(int index)
    {
        long place = SnapshotsOffset;
        for (int i = 0; i < index; i++)
        {
            place += SnapshotBytes(place);
            place = (place + 7) & ~7L;
        }

        return place;
    }

    /// <summary>Host offset of the L1 table of a snapshot.</summary>
    public long SnapshotL1(int index) => (long)U64(Snapshot(index));

    /// <summary>Host offset of the content of the bitmaps extension: count, reserved, directory size and offset.</summary>
    public long BitmapExtension
    {
        get
        {
            long offset = U32(100);
            while (U32(offset) != BitmapsExtension)
            {
                offset += 8 + ((U32(offset + 4) + 7) & ~7u);
            }

            return offset + 8;
        }
    }

    /// <summary>Host offset of the bitmap directory.</summary>
    public long BitmapDirectory => (long)U64(BitmapExtension + 16);

    /// <summary>Host offset of the first bitmap's table.</summary>
    public long BitmapTable => (long)U64(BitmapDirectory);

    /// <summary>Cuts the file, or lengthens it with zeros.</summary>
    public void SetLength(long length) => Array.Resize(ref _bytes, checked((int)length));

    /// <summary>Fills a range with bytes that look like nothing.</summary>
    public void Scribble(long offset, int length) => new Random(1).NextBytes(_bytes.AsSpan((int)offset, length));

    private long SnapshotBytes(long place) =>
        40 + U32(place + 36) + BinaryPrimitives.ReadUInt16BigEndian(_bytes.AsSpan((int)place + 12)) + BinaryPrimitives.ReadUInt16BigEndian(_bytes.AsSpan((int)place + 14));
}
