using System.Buffers.Binary;
using BlockMount.Base;
using BlockMount.Base.Buffers;
using BlockMount.Formats.Qcow2.OnDisk;
using BlockMount.Storage;

namespace BlockMount.Formats.Qcow2.Snapshots;

/// <summary>
/// One whole L2 table in memory, for walks over all tables of a tree. Entries of 8 bytes, or of 16 with subclusters, of which the first 8 say
/// where the cluster is. Single-threaded; dispose it.
/// </summary>
internal sealed class L2TableBuffer : IDisposable
{
    private readonly StorageFile _file;
    private readonly Geometry _geometry;
    private readonly int _entrySize;
    private readonly AlignedBuffer _buffer;

    /// <param name="entrySize">Bytes of an L2 entry: 8 or 16.</param>
    internal L2TableBuffer(StorageFile file, Geometry geometry, int entrySize)
    {
        _file = file;
        _geometry = geometry;
        _entrySize = entrySize;
        _buffer = AlignedBufferPool.Shared.Rent(geometry.ClusterSize);
    }

    /// <summary>Entries of a table.</summary>
    internal int Count => _geometry.ClusterSize / _entrySize;

    /// <summary>The entry's first 8 bytes.</summary>
    internal L2Entry this[int index]
    {
        get => new(BinaryPrimitives.ReadUInt64BigEndian(_buffer.GetSpan()[(index * _entrySize)..]));
        set => BinaryPrimitives.WriteUInt64BigEndian(_buffer.GetSpan()[(index * _entrySize)..], value.Raw);
    }

    /// <summary>Reads the table at a host offset. Nothing of it waits in a cache.</summary>
    /// <exception cref="BlockIOException">EIO also if the offset is not that of a cluster.</exception>
    internal ValueTask LoadAsync(long hostOffset)
    {
        CheckAligned(hostOffset, "L2 table");
        return _file.ReadAsync(hostOffset, _buffer.Memory[.._geometry.ClusterSize]);
    }

    /// <summary>Writes the table to a cluster.</summary>
    internal ValueTask StoreAsync(HostCluster cluster) => _file.WriteAsync(_geometry.OffsetOf(cluster), _buffer.Memory[.._geometry.ClusterSize]);

    /// <summary>The host clusters that an entry refers to; none if it has no place in the file.</summary>
    internal bool TryGetClusters(L2Entry entry, out HostRun clusters)
    {
        if (entry.IsCompressed)
        {
            (long offset, int length) = entry.CompressedExtent(_geometry.ClusterBits);
            HostCluster first = _geometry.HostClusterOf(offset);
            clusters = new HostRun(first, _geometry.HostClusterOf(offset + length - 1) - first + 1);
            return true;
        }

        if (entry.HostOffset == 0)
        {
            clusters = default;
            return false;
        }

        CheckAligned(entry.HostOffset, "cluster");
        clusters = new HostRun(_geometry.HostClusterOf(entry.HostOffset), 1);
        return true;
    }

    /// <inheritdoc/>
    public void Dispose() => AlignedBufferPool.Shared.Return(_buffer);

    private void CheckAligned(long offset, string what)
    {
        if (_geometry.OffsetInCluster(offset) != 0)
        {
            throw new BlockIOException(
                Errno.EIO, $"{what} at {offset:#x} in '{_file.Name}', which is not aligned to a cluster", "The image is damaged: run 'blockmount check' on it");
        }
    }
}
