using System.Buffers.Binary;
using System.Diagnostics;
using BlockMount.Base;
using BlockMount.Base.Buffers;
using BlockMount.Formats.Qcow2.OnDisk;
using BlockMount.Storage;

namespace BlockMount.Formats.Qcow2.Metadata;

/// <summary>
/// Refcounts of host clusters: the table in memory, the blocks through a cache. Creates blocks and grows the table where an allocation
/// needs them. Everything runs under the image's metadata mutex.
/// <para>New blocks describe themselves: a block that does not exist says that all clusters of its area are free, so it takes the first of
/// them. Its content is flushed before the table points to it; otherwise a crash could leave garbage refcounts in force.</para>
/// </summary>
public sealed class RefcountTable
{
    // qcow2 specification: QEMU refuses larger tables, and so does our header reader.
    private const int TableBytesMax = 8 << 20;
    private const int EntrySize = sizeof(ulong);
    private const ulong OffsetMask = ~511UL;

    private readonly StorageFile _file;
    private readonly Geometry _geometry;
    private readonly MetadataCache _blocks;
    private readonly WriteBackOrder _order;
    private readonly OverlapChecks _checks;
    private readonly FreshRefcounts _fresh;

    private ulong[] _entries;

    private RefcountTable(StorageFile file, Geometry geometry, MetadataCache blocks, WriteBackOrder order, OverlapChecks checks, HostRun location)
    {
        _checks = checks;
        _fresh = new FreshRefcounts(file, geometry, blocks, checks);
        _file = file;
        _geometry = geometry;
        _blocks = blocks;
        _order = order;
        Location = location;
        _entries = new ulong[location.Count * geometry.ClusterSize / EntrySize];
    }

    /// <summary>The clusters that hold the table.</summary>
    public HostRun Location { get; private set; }

    /// <summary>Clusters that a table of the present size can describe.</summary>
    public long ClustersCovered => (long)_entries.Length << _geometry.RefcountBlockBits;

    /// <summary>Entries of the table: how many blocks it can name.</summary>
    internal int EntryCount => _entries.Length;

    /// <summary>Host offset of the block with that index; 0 where there is none. May be unaligned in a damaged image.</summary>
    internal long BlockOffset(long index) => index < _entries.Length ? (long)_entries[index] : 0;

    /// <summary>Reads the table, and registers it and its blocks with <paramref name="checks"/>.</summary>
    public static async ValueTask<RefcountTable> LoadAsync(
        StorageFile file, Geometry geometry, MetadataCache blocks, WriteBackOrder order, OverlapChecks checks, HostRun location)
    {
        RefcountTable table = new(file, geometry, blocks, order, checks, location);
        AlignedBuffer buffer = AlignedBufferPool.Shared.Rent(geometry.ClusterSize);
        try
        {
            Memory<byte> cluster = buffer.Memory[..geometry.ClusterSize];
            int perCluster = geometry.ClusterSize / EntrySize;
            for (int i = 0; i < location.Count; i++)
            {
                await file.ReadAsync(geometry.OffsetOf(location.Start + i), cluster);
                for (int k = 0; k < perCluster; k++)
                {
                    table._entries[(i * perCluster) + k] = BinaryPrimitives.ReadUInt64BigEndian(cluster.Span[(k * EntrySize)..]) & OffsetMask;
                }
            }
        }
        finally
        {
            AlignedBufferPool.Shared.Return(buffer);
        }

        table.Register();
        return table;
    }

    /// <summary>The refcount of a cluster; 0 where no block exists.</summary>
    public async ValueTask<ulong> GetAsync(HostCluster cluster)
    {
        long sliceOffset = SliceOffset(cluster, out int index);
        if (sliceOffset == 0)
        {
            return 0;
        }

        MetadataSlice slice = await _blocks.GetAsync(sliceOffset);
        return RefcountEntry.Read(slice.Bytes, index, _geometry.RefcountOrder);
    }

    /// <summary>Sets the refcount of a cluster, creating the block that holds it where it is missing.</summary>
    public async ValueTask SetAsync(HostCluster cluster, ulong value)
    {
        Debug.Assert(value <= _geometry.RefcountMax);
        await EnsureBlockAsync(cluster);
        long sliceOffset = SliceOffset(cluster, out int index);
        MetadataSlice slice = await _blocks.GetForWriteAsync(sliceOffset);
        RefcountEntry.Write(slice.Bytes, index, _geometry.RefcountOrder, value);
    }

    /// <summary>The first cluster from <paramref name="start"/> on whose refcount is 0, which includes clusters that no block describes yet.</summary>
    public async ValueTask<HostCluster> FindFreeAsync(HostCluster start)
    {
        long index = start.Index;
        while (true)
        {
            long sliceOffset = SliceOffset(new HostCluster(index), out int first);
            if (sliceOffset == 0)
            {
                return new HostCluster(index);
            }

            MetadataSlice slice = await _blocks.GetAsync(sliceOffset);
            int free = FirstZero(slice.Bytes, first);
            index += free - first;
            if (free < _geometry.RefcountSliceEntries)
            {
                return new HostCluster(index);
            }
        }
    }

    /// <summary>True if the refcount of <paramref name="cluster"/> has a place on disk.</summary>
    public bool IsDescribed(HostCluster cluster) => SliceOffset(cluster, out _) != 0;

    /// <summary>
    /// Finds <paramref name="count"/> contiguous free clusters where nothing is described yet, and creates the blocks that describe
    /// them. For runs that are longer than the space between two refcount blocks.
    /// </summary>
    public async ValueTask<HostCluster> ReserveFreshRunAsync(long count)
    {
        while (true)
        {
            int firstIndex = Array.FindLastIndex(_entries, static entry => entry != 0) + 1;
            long blocks = _fresh.BlocksFor(count);
            if (firstIndex + blocks > _entries.Length)
            {
                await GrowAsync(firstIndex + blocks);
                continue;
            }

            HostCluster area = new((long)firstIndex << _geometry.RefcountBlockBits);
            await AddBlocksAsync(firstIndex, area, blocks);
            return area + blocks;
        }
    }

    /// <summary>Makes sure that the refcount of <paramref name="cluster"/> can be stored.</summary>
    /// <returns>True if blocks or a larger table were created, so that clusters which were free no longer are.</returns>
    public async ValueTask<bool> EnsureBlockAsync(HostCluster cluster)
    {
        long tableIndex = cluster.Index >> _geometry.RefcountBlockBits;
        if (tableIndex < _entries.Length && _entries[tableIndex] != 0)
        {
            return false;
        }

        if (tableIndex >= _entries.Length)
        {
            await GrowAsync(tableIndex + 1);
        }

        if (_entries[tableIndex] == 0)
        {
            await AddBlocksAsync(tableIndex, new HostCluster(tableIndex << _geometry.RefcountBlockBits), blocks: 1);
        }

        return true;
    }

    // Host offset of the slice with the cluster's refcount, 0 if there is none, and the index inside the slice.
    private long SliceOffset(HostCluster cluster, out int index)
    {
        long tableIndex = cluster.Index >> _geometry.RefcountBlockBits;
        index = (int)(cluster.Index & (_geometry.RefcountSliceEntries - 1));
        if (tableIndex >= _entries.Length || _entries[tableIndex] == 0)
        {
            return 0;
        }

        long blockOffset = (long)_entries[tableIndex];
        if (_geometry.OffsetInCluster(blockOffset) != 0)
        {
            throw _checks.Health.Damaged("the refcount table names a block that is not aligned to a cluster", blockOffset);
        }

        // Not only before it is written: what overlaps another table says nothing about which clusters are free.
        _checks.CheckTable(MetadataKinds.RefcountBlock, blockOffset, _geometry.ClusterSize);

        long inBlock = cluster.Index & ((1L << _geometry.RefcountBlockBits) - 1);
        return blockOffset + (inBlock / _geometry.RefcountSliceEntries * _geometry.RefcountSliceSize);
    }

    private int FirstZero(ReadOnlySpan<byte> slice, int first)
    {
        int index = first;
        while (index < _geometry.RefcountSliceEntries && RefcountEntry.Read(slice, index, _geometry.RefcountOrder) != 0)
        {
            index++;
        }

        return index;
    }

    // New blocks in the present table, for the area that begins with them.
    private async ValueTask AddBlocksAsync(long firstIndex, HostCluster area, long blocks)
    {
        await _fresh.WriteBlocksAsync(area, blocks, used: HistoricBug.Is(Bug.D8BlockCountedTooLate) ? 0 : blocks);
        for (int i = 0; i < blocks; i++)
        {
            try
            {
                await LinkBlockAsync(firstIndex + i, area + i);
            }
            catch
            {
                _checks.Remove(new HostRun(area + i, blocks - i), MetadataKinds.RefcountBlock);
                throw;
            }

            if (HistoricBug.Is(Bug.D8BlockCountedTooLate))
            {
                await SetAsync(area + i, 1);
            }
        }
    }

    // The block's content is on disk.
    private async ValueTask LinkBlockAsync(long tableIndex, HostCluster block)
    {
        await WriteEntryAsync(tableIndex, (ulong)_geometry.OffsetOf(block));
        _entries[tableIndex] = (ulong)_geometry.OffsetOf(block);
        _order.TablesAfterFlush();
        _order.FileMustCover(_geometry.OffsetOf(block + 1));
    }

    private void Register()
    {
        _checks.Add(Location, MetadataKinds.RefcountTable);
        foreach (ulong entry in _entries)
        {
            if (entry != 0 && _geometry.OffsetInCluster((long)entry) == 0)
            {
                _checks.Add(new HostRun(_geometry.HostClusterOf((long)entry), 1), MetadataKinds.RefcountBlock);
            }
        }
    }

    private async ValueTask WriteEntryAsync(long tableIndex, ulong value)
    {
        AlignedBuffer buffer = AlignedBufferPool.Shared.Rent(EntrySize);
        try
        {
            BinaryPrimitives.WriteUInt64BigEndian(buffer.GetSpan(), value);
            long offset = _geometry.OffsetOf(Location.Start) + (tableIndex * EntrySize);
            _checks.CheckTable(MetadataKinds.RefcountTable, offset, EntrySize);
            await _file.WriteAsync(offset, buffer.Memory[..EntrySize]);
        }
        finally
        {
            AlignedBufferPool.Shared.Return(buffer);
        }
    }

    // The new table goes to the first area that the old one cannot describe, where everything is free:
    //
    //   area start                                   area start + blocks + table
    //   | refcount blocks for these clusters | new table | free ...
    //
    // Everything is on disk before the header points to it; the old table is freed afterwards.
    private async ValueTask GrowAsync(long entriesWanted)
    {
        long entriesPerCluster = _geometry.ClusterSize / EntrySize;
        int oldCount = _entries.Length;
        long wanted = Math.Max(entriesWanted, oldCount + (oldCount / 2));
        long tableClusters = Alignment.DivideUp(wanted, entriesPerCluster);
        long blocks = _fresh.BlocksFor(tableClusters);
        while (tableClusters * entriesPerCluster < oldCount + blocks)
        {
            tableClusters++;
            blocks = _fresh.BlocksFor(tableClusters);
        }

        if (tableClusters * _geometry.ClusterSize > TableBytesMax)
        {
            throw new BlockIOException(Errno.EFBIG, $"growing the refcount table of '{_file.Name}' beyond {TableBytesMax} bytes");
        }

        ulong[] entries = new ulong[tableClusters * entriesPerCluster];
        _entries.CopyTo(entries, 0);
        HostCluster area = new(ClustersCovered);
        await _fresh.WriteBlocksAsync(area, blocks, blocks + tableClusters);
        for (int i = 0; i < blocks; i++)
        {
            entries[oldCount + i] = (ulong)_geometry.OffsetOf(area + i);
        }

        HostRun location = new(area + blocks, tableClusters);
        _checks.Add(location, MetadataKinds.RefcountTable);
        try
        {
            await _fresh.WriteTableAsync(entries, location);
            await _file.FlushAsync();
            await HeaderUpdate.WriteRefcountTableAsync(_file, _order, _geometry.OffsetOf(location.Start), (int)location.Count);
        }
        catch
        {
            _checks.Remove(location, MetadataKinds.RefcountTable);
            _checks.Remove(new HostRun(area, blocks), MetadataKinds.RefcountBlock);
            throw;
        }

        await SwitchToAsync(entries, location);
    }

    // The header names the new table.
    private async ValueTask SwitchToAsync(ulong[] entries, HostRun location)
    {
        HostRun old = Location;
        _checks.Remove(old, MetadataKinds.RefcountTable);
        _entries = entries;
        Location = location;
        _order.FileMustCover(_geometry.OffsetOf(location.End));
        for (int i = 0; i < old.Count; i++)
        {
            // The header that no longer needs them is on disk, so they are free at once.
            await SetAsync(old.Start + i, 0);
        }
    }
}
