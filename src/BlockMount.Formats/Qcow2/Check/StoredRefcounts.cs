using System.Diagnostics;
using System.Numerics;
using System.Runtime.InteropServices;
using BlockMount.Formats.Qcow2.OnDisk;
using BlockMount.Storage;

namespace BlockMount.Formats.Qcow2.Check;

/// <summary>Whether a refcount block can be read.</summary>
internal enum BlockState
{
    /// <summary>Its entry in the refcount table is 0, or the table does not reach so far: all its refcounts are 0.</summary>
    Absent,

    /// <summary>It can be read; what lies behind the end of the file reads as zeros.</summary>
    Readable,

    /// <summary>Its entry is no multiple of the cluster size: nobody knows its refcounts.</summary>
    Misaligned,
}

/// <summary>
/// Reads refcounts as the image stores them (qcow2 specification, "Host cluster management"). Holds blocks of up to <see cref="HeldBytesMax"/>.
/// Single-threaded.
/// </summary>
internal sealed class StoredRefcounts
{
    internal const ulong OffsetMask = ~0x1ffUL;
    private const int HeldBytesMax = 32 << 20;

    /// <summary>So many refcounts fill whole words at every width.</summary>
    internal const int UsedClustersUnit = 64;

    private readonly StorageFile _file;
    private readonly CheckedLayout _layout;
    private readonly TableReader _table;

    // Direct-mapped by block number; buffers are allocated as used.
    private readonly byte[]?[] _blocks;
    private readonly long[] _held;
    private readonly BlockState[] _states;

    // The block that was read last, by its host offset: a hostile table names one a million times. -1 for none.
    private long _lastSlot;
    private long _lastOffset = -1;

    /// <param name="holes">Shared by the readers of one file.</param>
    /// <param name="memory">Where the buffers come from; null to make new ones.</param>
    internal StoredRefcounts(StorageFile file, CheckedLayout layout, HoleMap holes, CheckMemory? memory = null)
    {
        _file = file;
        _layout = layout;
        TableEntries = layout.RefcountTableBytes / 8;
        _table = new TableReader(file, holes, layout.RefcountTableBytes);
        _table.Select(layout.RefcountTableOffset, layout.RefcountTableBytes);
        long needed = (layout.FileClusters / layout.RefcountBlockEntries) + 2;
        int slots = (int)Math.Clamp(needed, 1, Math.Max(4, HeldBytesMax / layout.ClusterSize));
        _blocks = memory?.TakeBlocks(slots, layout.ClusterSize) ?? new byte[slots][];
        slots = _blocks.Length;
        _held = new long[slots];
        _states = new BlockState[slots];
        Array.Fill(_held, -1);
    }

    /// <summary>Entries of the refcount table.</summary>
    internal long TableEntries { get; }

    /// <summary>An entry of the refcount table as it is stored; 0 where the table ends.</summary>
    internal ValueTask<ulong> TableEntryAsync(long block) => block < TableEntries ? _table.ReadAsync(block) : new ValueTask<ulong>(0UL);

    /// <summary>The first block from <paramref name="block"/> on whose entry in the refcount table is not 0; <see cref="long.MaxValue"/> if there is none.</summary>
    internal async ValueTask<long> NextBlockAsync(long block)
    {
        while (block < TableEntries)
        {
            if (await _table.ReadAsync(block) != 0)
            {
                return block;
            }

            block += _table.RunLength(block);
        }

        return long.MaxValue;
    }

    /// <summary>Makes <see cref="TryGet"/> answer for the clusters of a block, until some other block takes its place.</summary>
    internal ValueTask LoadAsync(long block) =>
        _held[block % _held.Length] == block ? ValueTask.CompletedTask : LoadCoreAsync(block);

    /// <summary>The stored refcount of a host cluster, if its block is held.</summary>
    /// <returns>False if <see cref="LoadAsync"/> must be called for the block first.</returns>
    internal bool TryGet(long cluster, out ulong refcount, out BlockState state)
    {
        long block = cluster / _layout.RefcountBlockEntries;
        long slot = block % _held.Length;
        refcount = 0;
        state = _states[slot];
        if (_held[slot] != block)
        {
            return false;
        }

        if (state == BlockState.Readable)
        {
            refcount = RefcountEntry.Read(_blocks[slot], (int)(cluster - (block * _layout.RefcountBlockEntries)), _layout.RefcountOrder);
        }

        return true;
    }

    /// <summary>
    /// How many clusters of a range have a stored refcount that is not 0, and the last of them (-1 for none). The range lies in one readable block that is
    /// held, and begins and ends at multiples of <see cref="UsedClustersUnit"/>.
    /// </summary>
    internal (long Used, long Last) CountUsed(long first, long end)
    {
        Debug.Assert(first % UsedClustersUnit == 0 && end % UsedClustersUnit == 0);
        long block = first / _layout.RefcountBlockEntries;
        Debug.Assert(_held[block % _held.Length] == block);
        int order = _layout.RefcountOrder;
        int start = (int)((first - (block * _layout.RefcountBlockEntries)) << order >> 3);
        ReadOnlySpan<byte> bytes = _blocks[block % _held.Length].AsSpan(start, (int)((end - first) << order >> 3));
        int lastByte = bytes.LastIndexOfAnyExcept((byte)0);
        if (lastByte < 0)
        {
            return (0, -1);
        }

        long last = first + (((lastByte + 1L) << 3 >> order) - 1);
        while (RefcountEntry.Read(bytes, (int)(last - first), order) == 0)
        {
            last--;
        }

        return (CountUsed(bytes, order), last);
    }

    private static long CountUsed(ReadOnlySpan<byte> bytes, int order)
    {
        switch (order)
        {
            case 3:
                return bytes.Length - bytes.Count((byte)0);
            case 4:
                return (bytes.Length / 2) - MemoryMarshal.Cast<byte, ushort>(bytes).Count((ushort)0);
            case 5:
                return (bytes.Length / 4) - MemoryMarshal.Cast<byte, uint>(bytes).Count(0U);
            case 6:
                return (bytes.Length / 8) - MemoryMarshal.Cast<byte, ulong>(bytes).Count(0UL);
        }

        long used = 0;
        foreach (ulong word in MemoryMarshal.Cast<byte, ulong>(bytes))
        {
            // The lowest bit of each refcount says whether any of its bits is set.
            ulong folded = order >= 1 ? word | (word >> 1) : word;
            folded = order == 2 ? folded | (folded >> 2) : folded;
            used += BitOperations.PopCount(folded & (order switch { 0 => ulong.MaxValue, 1 => 0x5555555555555555, _ => 0x1111111111111111 }));
        }

        return used;
    }

    /// <summary>The stored refcount of a host cluster; 0 where nobody knows it.</summary>
    internal async ValueTask<ulong> GetAsync(long cluster)
    {
        await LoadAsync(cluster / _layout.RefcountBlockEntries);
        _ = TryGet(cluster, out ulong refcount, out _);
        return refcount;
    }

    private async ValueTask LoadCoreAsync(long block)
    {
        long slot = block % _held.Length;
        _held[slot] = -1;
        long offset = (long)(await TableEntryAsync(block) & OffsetMask & long.MaxValue);
        if (offset == 0)
        {
            _states[slot] = BlockState.Absent;
        }
        else if ((offset & (_layout.ClusterSize - 1)) != 0)
        {
            _states[slot] = BlockState.Misaligned;
        }
        else
        {
            await ReadAsync(slot, offset);
            _states[slot] = BlockState.Readable;
        }

        _held[slot] = block;
    }

    private async ValueTask ReadAsync(long slot, long offset)
    {
        byte[] bytes = _blocks[slot] ??= new byte[_layout.ClusterSize];
        if (offset == _lastOffset && slot != _lastSlot)
        {
            _blocks[_lastSlot]!.CopyTo(bytes, 0);
        }
        else
        {
            _lastOffset = -1;
            await _file.ReadAsync(offset, bytes);
        }

        (_lastSlot, _lastOffset) = (slot, offset);
    }
}
