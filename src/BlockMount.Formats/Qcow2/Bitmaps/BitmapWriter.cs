using System.Buffers.Binary;
using BlockMount.Base;
using BlockMount.Base.Buffers;
using BlockMount.Formats.Qcow2.Allocation;
using BlockMount.Storage;

namespace BlockMount.Formats.Qcow2.Bitmaps;

/// <summary>
/// Writes clusters that nothing points to yet: the bits of a bitmap, its table, a directory. Remembers what it took, to give it back if the
/// change fails. Under the metadata mutex; for one change.
/// </summary>
internal sealed class BitmapWriter
{
    private const ulong AllOnes = 1;

    private readonly StorageFile _file;
    private readonly Geometry _geometry;
    private readonly ClusterAllocator _allocator;
    private readonly List<HostRun> _taken = [];

    internal BitmapWriter(StorageFile file, Geometry geometry, ClusterAllocator allocator)
    {
        _file = file;
        _geometry = geometry;
        _allocator = allocator;
    }

    /// <summary>Stores <paramref name="bitCount"/> bits; clusters that are all zeros or all ones take no space.</summary>
    /// <param name="source">Null for zeros.</param>
    /// <returns>Host offset and entries of the table.</returns>
    internal async ValueTask<(long TableOffset, int TableEntries)> WriteBitsAsync(long bitCount, BitmapSource? source)
    {
        long byteCount = (bitCount + 7) / 8;
        // A table of no entries is not allowed.
        ulong[] table = new ulong[Math.Max(_geometry.ClustersFor(byteCount), 1)];
        if (source is not null)
        {
            await WriteClustersAsync(table, bitCount, source);
        }

        byte[] encoded = new byte[table.Length * sizeof(ulong)];
        for (int i = 0; i < table.Length; i++)
        {
            BinaryPrimitives.WriteUInt64BigEndian(encoded.AsSpan(i * sizeof(ulong)), table[i]);
        }

        return (await WriteContiguousAsync(encoded), table.Length);
    }

    /// <summary>Writes <paramref name="content"/> into new contiguous clusters, padded with zeros.</summary>
    /// <returns>The host offset.</returns>
    internal async ValueTask<long> WriteContiguousAsync(ReadOnlyMemory<byte> content)
    {
        HostRun run = await _allocator.AllocateContiguousAsync(_geometry.ClustersFor(content.Length));
        _taken.Add(run);
        long offset = _geometry.OffsetOf(run.Start);
        AlignedBuffer buffer = AlignedBufferPool.Shared.Rent(_geometry.ClusterSize);
        try
        {
            Memory<byte> cluster = buffer.Memory[.._geometry.ClusterSize];
            for (long i = 0; i < run.Count; i++)
            {
                int start = (int)(i * cluster.Length);
                ReadOnlyMemory<byte> part = content[start..Math.Min(start + cluster.Length, content.Length)];
                part.CopyTo(cluster);
                cluster[part.Length..].Span.Clear();
                await _file.WriteAsync(offset + start, cluster);
            }
        }
        finally
        {
            AlignedBufferPool.Shared.Return(buffer);
        }

        return offset;
    }

    /// <summary>Frees what was taken, after a failure: nothing on disk points to it.</summary>
    internal async ValueTask GiveBackAsync()
    {
        foreach (HostRun run in _taken)
        {
            try
            {
                await _allocator.ReleaseAsync(run);
            }
            catch (BlockIOException)
            {
                // The first failure is what is told; these clusters leak, and a check will find them.
            }
        }

        _taken.Clear();
    }

    private async ValueTask WriteClustersAsync(ulong[] table, long bitCount, BitmapSource source)
    {
        long byteCount = (bitCount + 7) / 8;
        AlignedBuffer buffer = AlignedBufferPool.Shared.Rent(_geometry.ClusterSize);
        try
        {
            Memory<byte> cluster = buffer.Memory[.._geometry.ClusterSize];
            for (int i = 0; i < table.Length; i++)
            {
                long start = (long)i << _geometry.ClusterBits;
                int length = (int)Math.Min(cluster.Length, byteCount - start);
                if (length <= 0)
                {
                    return;
                }

                cluster.Span.Clear();
                await source(start, cluster[..length]);
                ClearBitsFrom(cluster.Span, bitCount - (start * 8));
                table[i] = await StoreAsync(cluster);
            }
        }
        finally
        {
            AlignedBufferPool.Shared.Return(buffer);
        }
    }

    private async ValueTask<ulong> StoreAsync(ReadOnlyMemory<byte> cluster)
    {
        if (!cluster.Span.ContainsAnyExcept((byte)0))
        {
            return 0;
        }

        if (!cluster.Span.ContainsAnyExcept((byte)0xff))
        {
            return AllOnes;
        }

        (HostRun run, bool _) = await _allocator.AllocateAsync(1);
        if (_taken.Count > 0 && _taken[^1].End == run.Start)
        {
            _taken[^1] = new HostRun(_taken[^1].Start, _taken[^1].Count + 1);
        }
        else
        {
            _taken.Add(run);
        }

        await _file.WriteAsync(_geometry.OffsetOf(run.Start), cluster);
        return (ulong)_geometry.OffsetOf(run.Start);
    }

    // What a source says of the space behind the end must not become true when the disk grows.
    private static void ClearBitsFrom(Span<byte> cluster, long firstBit)
    {
        if (firstBit >= cluster.Length * 8L)
        {
            return;
        }

        int index = (int)(firstBit / 8);
        cluster[index] &= (byte)((1 << (int)(firstBit % 8)) - 1);
        cluster[(index + 1)..].Clear();
    }
}
