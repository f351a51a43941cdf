using BlockMount.Base;
using BlockMount.Base.Buffers;

namespace BlockMount.Formats.Qcow2.Compression;

/// <summary>
/// Reads compressed clusters and keeps the last few decompressed ones, because small sequential reads come back to the same cluster. Thread-safe.
/// </summary>
public sealed class CompressedClusters
{
    private const int CachedBytesMax = 1 << 20;

    private readonly ClusterDecompressor _decompressor;
    private readonly int _clusterSize;

    private readonly Lock _gate = new();

    // Guarded by _gate. The most recently used last.
    private readonly List<(long HostOffset, byte[] Cluster)> _cached = [];
    private long _generation;

    public CompressedClusters(ClusterDecompressor decompressor, int clusterSize)
    {
        _decompressor = decompressor;
        _clusterSize = clusterSize;
    }

    /// <summary>Copies bytes of the cluster that <paramref name="mapping"/> describes, from <paramref name="offsetInCluster"/> on.</summary>
    public async ValueTask ReadAsync(Mapping mapping, int offsetInCluster, Memory<byte> destination)
    {
        if (TryCopyCached(mapping.FileOffset, offsetInCluster, destination.Span, out long generation))
        {
            return;
        }

        byte[] cluster = new byte[_clusterSize];
        AlignedBuffer compressed = AlignedBufferPool.Shared.Rent(mapping.CompressedLength);
        try
        {
            // The last sector may lie partly behind the end of the file; it reads as zeros there.
            Memory<byte> stream = compressed.Memory[..mapping.CompressedLength];
            await mapping.File!.ReadAsync(mapping.FileOffset, stream);
            _decompressor.Decompress(stream.Span, cluster);
        }
        catch (InvalidDataException e)
        {
            throw new BlockIOException(
                Errno.EIO,
                $"read of the compressed cluster at {mapping.FileOffset} in '{mapping.File!.Name}' ({e.Message})",
                "The image is damaged: restore it from a backup, or look at it with 'blockmount check'",
                e);
        }
        finally
        {
            AlignedBufferPool.Shared.Return(compressed);
        }

        cluster.AsSpan(offsetInCluster, destination.Length).CopyTo(destination.Span);
        Keep(mapping.FileOffset, cluster, generation);
    }

    /// <summary>Forgets the cluster at <paramref name="hostOffset"/>: another stream will be written there.</summary>
    public void Forget(long hostOffset)
    {
        lock (_gate)
        {
            if (IndexOfLocked(hostOffset) is >= 0 and int index)
            {
                _cached.RemoveAt(index);
            }
        }
    }

    /// <summary>Forgets everything: host space of compressed clusters may be used for something else soon.</summary>
    public void Clear()
    {
        lock (_gate)
        {
            _generation++;
            _cached.Clear();
        }
    }

    private bool TryCopyCached(long hostOffset, int offsetInCluster, Span<byte> destination, out long generation)
    {
        lock (_gate)
        {
            generation = _generation;
            int index = IndexOfLocked(hostOffset);
            if (index < 0)
            {
                return false;
            }

            (long HostOffset, byte[] Cluster) hit = _cached[index];
            _cached.RemoveAt(index);
            _cached.Add(hit);
            hit.Cluster.AsSpan(offsetInCluster, destination.Length).CopyTo(destination);
            return true;
        }
    }

    private void Keep(long hostOffset, byte[] cluster, long generation)
    {
        lock (_gate)
        {
            // Cleared since the read began: the content may be of the past.
            if (generation != _generation || IndexOfLocked(hostOffset) >= 0)
            {
                return;
            }

            _cached.Add((hostOffset, cluster));
            if (_cached.Count > Math.Max(1, CachedBytesMax / _clusterSize))
            {
                _cached.RemoveAt(0);
            }
        }
    }

    private int IndexOfLocked(long hostOffset)
    {
        for (int i = 0; i < _cached.Count; i++)
        {
            if (_cached[i].HostOffset == hostOffset)
            {
                return i;
            }
        }

        return -1;
    }
}
