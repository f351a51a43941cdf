using System.Buffers.Binary;
using System.Diagnostics;
using BlockMount.Storage;

namespace BlockMount.Formats.Qcow2.Check;

/// <summary>Reads refcounts as the image stores them (qcow2 specification, "Host cluster management"). Holds a few blocks. Single-threaded.</summary>
internal sealed class StoredRefcounts
{
    internal const ulong OffsetMask = ~0x1ffUL;
    private const int BlocksHeldMax = 16;

    private readonly StorageFile _file;
    private readonly CheckedLayout _layout;
    private readonly TableReader _table;

    // Direct-mapped by block number; allocated as used.
    private readonly byte[]?[] _blocks = new byte[BlocksHeldMax][];
    private readonly long[] _held = new long[BlocksHeldMax];

    internal StoredRefcounts(StorageFile file, CheckedLayout layout)
    {
        _file = file;
        _layout = layout;
        _table = new TableReader(file, TableBytes);
        _table.Select(layout.RefcountTableOffset, TableBytes);
        Array.Fill(_held, -1);
    }

    /// <summary>Refcounts in one block.</summary>
    internal long BlockEntries => (_layout.ClusterSize * 8L) >> _layout.RefcountOrder;

    /// <summary>Entries of the refcount table.</summary>
    internal long TableEntries => TableBytes / 8;

    private long TableBytes => _layout.RefcountTableClusters << _layout.ClusterBits;

    /// <summary>Host offset of a block as the table has it; 0 if there is none. May be damaged.</summary>
    internal ValueTask<ulong> BlockEntryAsync(long block) => _table.ReadAsync(block);

    /// <summary>True if <paramref name="entry"/> of the refcount table leads to a block that can be read.</summary>
    internal bool IsUsable(ulong entry)
    {
        ulong offset = entry & OffsetMask;
        return offset != 0 && (offset & (ulong)(_layout.ClusterSize - 1)) == 0 && offset < (ulong)_layout.FileLength;
    }

    /// <summary>The stored refcount of a host cluster; 0 where the table does not reach.</summary>
    internal async ValueTask<ulong> ReadAsync(long cluster)
    {
        long block = cluster / BlockEntries;
        byte[]? bytes = await BlockAsync(block);
        return bytes is null ? 0 : Decode(bytes, (int)(cluster - (block * BlockEntries)), _layout.RefcountOrder);
    }

    /// <summary>The bytes of a block, valid until the next call; null if the image has none (all its refcounts are 0).</summary>
    internal async ValueTask<byte[]?> BlockAsync(long block)
    {
        int slot = (int)(block % BlocksHeldMax);
        if (_held[slot] == block)
        {
            return _blocks[slot];
        }

        ulong entry = block < TableEntries ? await _table.ReadAsync(block) : 0;
        if (!IsUsable(entry))
        {
            return null;
        }

        byte[] bytes = _blocks[slot] ??= new byte[_layout.ClusterSize];
        _held[slot] = -1;
        await _file.ReadAsync((long)(entry & OffsetMask), bytes);
        _held[slot] = block;
        return bytes;
    }

    /// <summary>Refcount number <paramref name="index"/> of a block. Widths below a byte fill it from the low bits up.</summary>
    internal static ulong Decode(ReadOnlySpan<byte> block, int index, int order)
    {
        switch (order)
        {
            case < 3:
                int bits = 1 << order;
                int bit = index << order;
                return (ulong)(block[bit >> 3] >> (bit & 7)) & ((1UL << bits) - 1);
            case 3:
                return block[index];
            case 4:
                return BinaryPrimitives.ReadUInt16BigEndian(block[(index * 2)..]);
            case 5:
                return BinaryPrimitives.ReadUInt32BigEndian(block[(index * 4)..]);
            case 6:
                return BinaryPrimitives.ReadUInt64BigEndian(block[(index * 8)..]);
            default:
                throw new UnreachableException();
        }
    }
}
