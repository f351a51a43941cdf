using System.Buffers.Binary;
using BlockMount.Formats.Qcow2.OnDisk;
using BlockMount.Storage;

namespace BlockMount.Formats.Qcow2.Amend;

/// <summary>
/// Reads the refcounts of a file that nobody changes, in ascending order: the table (at most 8 MiB) in memory, and one block. Not thread-safe.
/// </summary>
internal sealed class StoredRefcountReader
{
    private const ulong OffsetMask = ~511UL;

    private readonly StorageFile _file;
    private readonly int _clusterBits;
    private readonly byte[] _block;
    private readonly ulong[] _table;

    // Which block _block holds; -1 for none.
    private long _loaded = -1;

    private StoredRefcountReader(StorageFile file, Qcow2Header header, ulong[] table)
    {
        _file = file;
        _clusterBits = header.ClusterBits;
        Order = header.RefcountOrder;
        _table = table;
        _block = new byte[header.ClusterSize];
    }

    /// <summary>log2 of the width.</summary>
    internal int Order { get; }

    /// <summary>Clusters that one block describes.</summary>
    internal long BlockEntries => 1L << (_clusterBits + 3 - Order);

    /// <summary>Blocks that the table has room for.</summary>
    internal int BlockCount => _table.Length;

    /// <summary>Reads the table.</summary>
    /// <exception cref="ImageFormatException">It names a block that cannot be one.</exception>
    internal static async ValueTask<StoredRefcountReader> OpenAsync(StorageFile file, Qcow2Header header)
    {
        byte[] bytes = new byte[(long)header.RefcountTableClusters << header.ClusterBits];
        await file.ReadAsync(header.RefcountTableOffset, bytes);
        ulong[] table = new ulong[bytes.Length / sizeof(ulong)];
        // Each block once: no more of them than the file has clusters, whatever the table says.
        var seen = new HashSet<ulong>();
        for (int i = 0; i < table.Length; i++)
        {
            table[i] = BinaryPrimitives.ReadUInt64BigEndian(bytes.AsSpan(i * sizeof(ulong))) & OffsetMask;
            if (table[i] != 0 && (table[i] % (ulong)header.ClusterSize != 0 || table[i] >= (ulong)file.Length || !seen.Add(table[i])))
            {
                throw Qcow2HeaderValidator.Refuse(
                    file.Name, $"the refcount block {i} at {table[i]} lies outside the file, is not aligned to a cluster or is named twice");
            }
        }

        return new StoredRefcountReader(file, header, table);
    }

    /// <summary>Host offset of a block; 0 if there is none.</summary>
    internal long BlockOffset(long block) => block < _table.Length ? (long)_table[block] : 0;

    /// <summary>The refcount of a cluster.</summary>
    internal ValueTask<ulong> GetAsync(long cluster)
    {
        long block = cluster / BlockEntries;
        if (BlockOffset(block) == 0)
        {
            return new ValueTask<ulong>(0UL);
        }

        return block == _loaded ? new ValueTask<ulong>(Decode(cluster)) : LoadAsync(cluster, block);
    }

    private async ValueTask<ulong> LoadAsync(long cluster, long block)
    {
        _loaded = -1;
        await _file.ReadAsync((long)_table[block], _block);
        _loaded = block;
        return Decode(cluster);
    }

    private ulong Decode(long cluster) => RefcountEntry.Read(_block, (int)(cluster & (BlockEntries - 1)), Order);
}
