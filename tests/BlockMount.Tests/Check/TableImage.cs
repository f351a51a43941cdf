using System.Buffers.Binary;
using BlockMount.TestSupport;

namespace BlockMount.Tests.Check;

/// <summary>
/// A qcow2 image with clusters of 512 bytes in memory whose tables lie where a test puts them, and what it refers to counted without the code under test.
/// The refcounts that it stores are all 0.
/// </summary>
internal sealed class TableImage
{
    internal const int ClusterSize = 512;
    internal const ulong Copied = 1UL << 63;
    private const ulong OffsetMask = 0x00fffffffffffe00;
    private const int SnapshotBytes = 40;
    private const long SnapshotsOffset = 0x4000;

    private readonly byte[] _bytes;
    private readonly List<(long Offset, int Entries)> _snapshots = [];
    private readonly int _l1Entries;

    /// <param name="length">Length of the file.</param>
    /// <param name="l1Entries">Entries of the active L1 table, which lies at <see cref="L1"/>.</param>
    internal TableImage(int length, int l1Entries)
    {
        _bytes = new byte[length];
        _l1Entries = l1Entries;
        Span<byte> header = _bytes;
        BinaryPrimitives.WriteUInt32BigEndian(header, 0x514649fb);
        BinaryPrimitives.WriteInt32BigEndian(header[4..], 2);
        BinaryPrimitives.WriteInt32BigEndian(header[20..], 9);
        BinaryPrimitives.WriteInt64BigEndian(header[24..], l1Entries * (ClusterSize / 8L) * ClusterSize);
        BinaryPrimitives.WriteInt32BigEndian(header[36..], l1Entries);
        Set(40, (ulong)L1);
        Set(48, ClusterSize);
        BinaryPrimitives.WriteInt32BigEndian(header[56..], 1);
        Set(64, (ulong)SnapshotsOffset);
    }

    /// <summary>Host offset of the active L1 table.</summary>
    internal static long L1 => 0x1000;

    internal ReadOnlySpan<byte> Bytes => _bytes;

    internal void Set(long offset, ulong value) => BinaryPrimitives.WriteUInt64BigEndian(_bytes.AsSpan((int)offset), value);

    internal ulong Get(long offset) => BinaryPrimitives.ReadUInt64BigEndian(_bytes.AsSpan((int)offset));

    /// <summary>Adds a snapshot without a name whose L1 table lies at a host offset.</summary>
    internal void AddSnapshot(long l1Offset, int l1Entries)
    {
        long place = SnapshotsOffset + (_snapshots.Count * SnapshotBytes);
        Set(place, (ulong)l1Offset);
        BinaryPrimitives.WriteInt32BigEndian(_bytes.AsSpan((int)place + 8), l1Entries);
        _snapshots.Add((l1Offset, l1Entries));
        BinaryPrimitives.WriteInt32BigEndian(_bytes.AsSpan(60), _snapshots.Count);
    }

    internal MemoryFile ToFile() => new("image", readOnly: false, _bytes);

    /// <summary>References to each cluster, every table walked as often as it is named; all references must be aligned and inside the file.</summary>
    internal long[] CountNaively()
    {
        long[] counts = new long[(_bytes.Length + ClusterSize - 1) / ClusterSize];
        Add(counts, 0, ClusterSize);
        Add(counts, ClusterSize, ClusterSize);
        Add(counts, SnapshotsOffset, _snapshots.Count * SnapshotBytes);
        foreach ((long offset, int entries) in _snapshots.Prepend((L1, _l1Entries)))
        {
            Add(counts, offset, entries * 8L);
            for (int i = 0; i < entries; i++)
            {
                AddL2Table(counts, Get(offset + (i * 8L)));
            }
        }

        return counts;
    }

    /// <summary>COPIED flags on the way from the active L1 table, each counted as often as it is met.</summary>
    internal long CountCopiedFlags()
    {
        long flags = 0;
        for (int i = 0; i < _l1Entries; i++)
        {
            ulong entry = Get(L1 + (i * 8L));
            flags += (entry & Copied) != 0 ? 1 : 0;
            for (int j = 0; entry != 0 && j < ClusterSize / 8; j++)
            {
                flags += (Get((long)(entry & OffsetMask) + (j * 8L)) & Copied) != 0 ? 1 : 0;
            }
        }

        return flags;
    }

    private void AddL2Table(long[] counts, ulong entry)
    {
        if (entry == 0)
        {
            return;
        }

        long table = (long)(entry & OffsetMask);
        Add(counts, table, ClusterSize);
        for (int i = 0; i < ClusterSize / 8; i++)
        {
            ulong data = Get(table + (i * 8L));
            if (data != 0)
            {
                Add(counts, (long)(data & OffsetMask), ClusterSize);
            }
        }
    }

    private static void Add(long[] counts, long offset, long length)
    {
        for (long cluster = offset / ClusterSize; length > 0 && cluster <= (offset + length - 1) / ClusterSize; cluster++)
        {
            counts[cluster]++;
        }
    }
}
