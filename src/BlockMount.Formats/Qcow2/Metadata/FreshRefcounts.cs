using System.Buffers.Binary;
using BlockMount.Base;
using BlockMount.Base.Buffers;
using BlockMount.Formats.Qcow2.OnDisk;
using BlockMount.Storage;

namespace BlockMount.Formats.Qcow2.Metadata;

/// <summary>
/// Writes new refcount blocks and new refcount tables into free clusters. Nothing names them yet: putting them in force is the business of
/// <see cref="RefcountTable"/>. Runs under the image's metadata mutex.
/// </summary>
internal sealed class FreshRefcounts
{
    private readonly StorageFile _file;
    private readonly Geometry _geometry;
    private readonly MetadataCache _blocks;
    private readonly OverlapChecks _checks;

    internal FreshRefcounts(StorageFile file, Geometry geometry, MetadataCache blocks, OverlapChecks checks)
    {
        _file = file;
        _geometry = geometry;
        _blocks = blocks;
        _checks = checks;
    }

    /// <summary>
    /// Blocks side by side from <paramref name="area"/> on, the first of them describing the area itself, with the first <paramref name="used"/>
    /// clusters in use. They are flushed, and registered as blocks, afterwards.
    /// </summary>
    internal async ValueTask WriteBlocksAsync(HostCluster area, long blocks, long used)
    {
        HostRun run = new(area, blocks);
        _checks.CheckAllocation(new HostRun(area, used));
        _checks.Add(run, MetadataKinds.RefcountBlock);
        try
        {
            for (int i = 0; i < blocks; i++)
            {
                long inThisBlock = Math.Clamp(used - ((long)i << _geometry.RefcountBlockBits), 0, 1L << _geometry.RefcountBlockBits);
                await WriteBlockAsync(area + i, inThisBlock);
            }

            await _file.FlushAsync();
        }
        catch
        {
            _checks.Remove(run, MetadataKinds.RefcountBlock);
            throw;
        }
    }

    /// <summary>How many blocks describe themselves and <paramref name="count"/> clusters behind them.</summary>
    internal long BlocksFor(long count)
    {
        long blocks = 1;
        while (Alignment.DivideUp(blocks + count, 1L << _geometry.RefcountBlockBits) is long needed && needed > blocks)
        {
            blocks = needed;
        }

        return blocks;
    }

    /// <summary>A whole table; <paramref name="location"/> is registered for it. Not flushed.</summary>
    internal async ValueTask WriteTableAsync(ulong[] entries, HostRun location)
    {
        AlignedBuffer buffer = AlignedBufferPool.Shared.Rent(_geometry.ClusterSize);
        try
        {
            int perCluster = _geometry.ClusterSize / sizeof(ulong);
            for (int i = 0; i < location.Count; i++)
            {
                Memory<byte> cluster = buffer.Memory[.._geometry.ClusterSize];
                for (int k = 0; k < perCluster; k++)
                {
                    BinaryPrimitives.WriteUInt64BigEndian(cluster.Span[(k * sizeof(ulong))..], entries[(i * perCluster) + k]);
                }

                _checks.CheckTable(MetadataKinds.RefcountTable, _geometry.OffsetOf(location.Start + i), _geometry.ClusterSize);
                await _file.WriteAsync(_geometry.OffsetOf(location.Start + i), cluster);
            }
        }
        finally
        {
            AlignedBufferPool.Shared.Return(buffer);
        }
    }

    // A block whose first selfCount clusters are in use (itself, and what is placed right behind it), all others free.
    private async ValueTask WriteBlockAsync(HostCluster block, long selfCount)
    {
        AlignedBuffer buffer = AlignedBufferPool.Shared.Rent(_geometry.ClusterSize);
        try
        {
            Memory<byte> content = buffer.Memory[.._geometry.ClusterSize];
            content.Span.Clear();
            for (int i = 0; i < selfCount; i++)
            {
                RefcountEntry.Write(content.Span, i, _geometry.RefcountOrder, 1);
            }

            _blocks.Drop(_geometry.OffsetOf(block), _geometry.ClusterSize);
            _checks.CheckTable(MetadataKinds.RefcountBlock, _geometry.OffsetOf(block), _geometry.ClusterSize);
            await _file.WriteAsync(_geometry.OffsetOf(block), content);
        }
        finally
        {
            AlignedBufferPool.Shared.Return(buffer);
        }
    }
}
