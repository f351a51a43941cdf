using System.Buffers.Binary;
using BlockMount.Base;
using BlockMount.Base.Buffers;
using BlockMount.Formats.Qcow2.OnDisk;
using BlockMount.Storage;

namespace BlockMount.Formats.Qcow2.Amend;

/// <summary>
/// Gives an image refcounts of another width. The whole new structure is written behind everything that is in use, says of the old structure that it
/// is free, and comes into force with one write of the header's first sector:
/// <code>
/// | header | ... old table, old blocks, data ... | new table | new blocks |
///                                                ^ behind the last cluster with a refcount, and behind the end of the file
/// </code>
/// So a power cut leaves the old structure, which knows nothing of the space behind, or the new one; never a leak. Memory: both tables, and a flag
/// for each block.
/// </summary>
internal sealed class RefcountWidthChange
{
    private readonly StorageFile _file;
    private readonly Qcow2Header _header;
    private readonly int _order;
    private readonly HashSet<long> _oldStructure = [];
    private StoredRefcountReader _old = null!;

    // Blocks of the new structure that say something; by their place in the table.
    private bool[] _needed = [];
    private long _regionStart;

    internal RefcountWidthChange(StorageFile file, Qcow2Header header, int order)
    {
        _file = file;
        _header = header;
        _order = order;
    }

    private long BlockEntries => 1L << (_header.ClusterBits + 3 - _order);

    private long EntriesPerCluster => _header.ClusterSize / sizeof(ulong);

    /// <summary>Looks at every refcount. Nothing is changed.</summary>
    /// <exception cref="ImageFormatException">A refcount does not fit into the new width, or the new table would be too large.</exception>
    internal async ValueTask PrepareAsync()
    {
        _old = await StoredRefcountReader.OpenAsync(_file, _header);
        _needed = new bool[Qcow2Limits.RefcountTableBytesMax / sizeof(ulong)];
        for (int i = 0; i < _header.RefcountTableClusters; i++)
        {
            _oldStructure.Add((_header.RefcountTableOffset >> _header.ClusterBits) + i);
        }

        for (int i = 0; i < _old.BlockCount; i++)
        {
            if (_old.BlockOffset(i) != 0)
            {
                _oldStructure.Add(_old.BlockOffset(i) >> _header.ClusterBits);
            }
        }

        long lastUsed = await FindNeededAsync();
        _regionStart = Math.Max(lastUsed + 1, Alignment.DivideUp(_file.Length, _header.ClusterSize));
        _ = Layout();
    }

    /// <summary>Writes the new structure and puts it in force. The header may have changed meanwhile, but not the refcounts.</summary>
    internal async ValueTask RunAsync()
    {
        (long tableClusters, List<long> blocks) = Layout();
        long regionEnd = _regionStart + tableClusters + blocks.Count;
        AlignedBuffer buffer = AlignedBufferPool.Shared.Rent(_header.ClusterSize);
        try
        {
            Memory<byte> cluster = buffer.Memory[.._header.ClusterSize];
            for (int i = 0; i < blocks.Count; i++)
            {
                await FillBlockAsync(cluster, blocks[i], regionEnd);
                await _file.WriteAsync((_regionStart + tableClusters + i) << _header.ClusterBits, cluster);
            }

            await WriteTableAsync(cluster, tableClusters, blocks);
            await _file.FlushAsync();
            await SwitchAsync(cluster, tableClusters);
        }
        finally
        {
            AlignedBufferPool.Shared.Return(buffer);
        }

        await PunchOldStructureAsync();
    }

    private async ValueTask<long> FindNeededAsync()
    {
        ulong max = _order == 6 ? ulong.MaxValue : (1UL << (1 << _order)) - 1;
        long last = 0;
        for (int block = 0; block < _old.BlockCount; block++)
        {
            long end = _old.BlockOffset(block) == 0 ? 0 : (block + 1) * _old.BlockEntries;
            for (long cluster = block * _old.BlockEntries; cluster < end; cluster++)
            {
                ulong value = await ValueOfAsync(cluster);
                if (value > max)
                {
                    throw new ImageFormatException(
                        $"Cannot decrease refcount entry width to {1 << _order} bits: Cluster at offset 0x{cluster << _header.ClusterBits:x} has a refcount of {value}");
                }

                if (value != 0)
                {
                    Need(cluster);
                    last = cluster;
                }
            }
        }

        return last;
    }

    // In the new structure. The old structure's own clusters lose the reference that it was.
    private async ValueTask<ulong> ValueOfAsync(long cluster)
    {
        ulong value = await _old.GetAsync(cluster);
        return value > 0 && _oldStructure.Contains(cluster) ? value - 1 : value;
    }

    private void Need(long cluster)
    {
        long block = cluster / BlockEntries;
        if (block >= _needed.Length)
        {
            throw new ImageFormatException(
                $"Refcounts of {1 << _order} bits would need a table of more than {Qcow2Limits.RefcountTableBytesMax} bytes", "Use narrower refcounts");
        }

        _needed[block] = true;
    }

    // Blocks and table describe themselves, too; each round adds less than the one before.
    private (long TableClusters, List<long> Blocks) Layout()
    {
        long clusters = 1;
        while (true)
        {
            for (long cluster = _regionStart; cluster < _regionStart + clusters; cluster++)
            {
                Need(cluster);
            }

            var blocks = new List<long>();
            for (long block = 0; block < _needed.Length; block++)
            {
                if (_needed[block])
                {
                    blocks.Add(block);
                }
            }

            long tableClusters = Alignment.DivideUp(blocks[^1] + 1, EntriesPerCluster);
            if (tableClusters + blocks.Count == clusters)
            {
                return (tableClusters, blocks);
            }

            clusters = tableClusters + blocks.Count;
        }
    }

    private async ValueTask FillBlockAsync(Memory<byte> content, long block, long regionEnd)
    {
        content.Span.Clear();
        for (long i = 0; i < BlockEntries; i++)
        {
            long cluster = (block * BlockEntries) + i;
            ulong value = cluster >= _regionStart ? (cluster < regionEnd ? 1UL : 0) : await ValueOfAsync(cluster);
            if (value != 0)
            {
                RefcountEntry.Write(content.Span, (int)i, _order, value);
            }
        }
    }

    private async ValueTask WriteTableAsync(Memory<byte> cluster, long tableClusters, List<long> blocks)
    {
        int next = 0;
        for (long i = 0; i < tableClusters; i++)
        {
            cluster.Span.Clear();
            for (; next < blocks.Count && blocks[next] < (i + 1) * EntriesPerCluster; next++)
            {
                long offset = (_regionStart + tableClusters + next) << _header.ClusterBits;
                BinaryPrimitives.WriteInt64BigEndian(cluster.Span[(int)((blocks[next] - (i * EntriesPerCluster)) * sizeof(ulong))..], offset);
            }

            await _file.WriteAsync((_regionStart + i) << _header.ClusterBits, cluster);
        }
    }

    // All three fields lie in one sector, which is written whole.
    private async ValueTask SwitchAsync(Memory<byte> buffer, long tableClusters)
    {
        Memory<byte> sector = buffer[..HeaderRewritePlan.SectorSize];
        await _file.ReadAsync(0, sector);
        BinaryPrimitives.WriteInt64BigEndian(sector.Span[Qcow2HeaderFields.RefcountTableOffset..], _regionStart << _header.ClusterBits);
        BinaryPrimitives.WriteInt32BigEndian(sector.Span[Qcow2HeaderFields.RefcountTableClusters..], (int)tableClusters);
        BinaryPrimitives.WriteInt32BigEndian(sector.Span[Qcow2HeaderFields.RefcountOrder..], _order);
        await _file.WriteAsync(0, sector);
        await _file.FlushAsync();
    }

    private async ValueTask PunchOldStructureAsync()
    {
        foreach (long cluster in _oldStructure)
        {
            if (await ValueOfAsync(cluster) != 0)
            {
                continue;
            }

            try
            {
                await _file.PunchHoleAsync(cluster << _header.ClusterBits, _header.ClusterSize);
            }
            catch (BlockIOException)
            {
                // The clusters are free all the same; only the host does not get the space back.
            }
        }
    }
}
