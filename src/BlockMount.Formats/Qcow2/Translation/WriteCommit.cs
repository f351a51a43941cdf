using BlockMount.Base;
using BlockMount.Base.Async;
using BlockMount.Formats.Qcow2.Allocation;
using BlockMount.Formats.Qcow2.Metadata;
using BlockMount.Formats.Qcow2.OnDisk;

namespace BlockMount.Formats.Qcow2.Translation;

/// <summary>Links clusters whose data has been written (I1), or gives them back.</summary>
public sealed class WriteCommit
{
    private readonly Geometry _geometry;
    private readonly GuestTables _tables;
    private readonly MetadataWriter _writer;

    public WriteCommit(Geometry geometry, GuestTables tables, MetadataWriter writer)
    {
        _geometry = geometry;
        _tables = tables;
        _writer = writer;
    }

    /// <summary>Points the L2 entries to the written subclusters. All or nothing: they lie in one slice.</summary>
    internal async ValueTask CommitAsync(Qcow2Allocation allocation)
    {
        using (AsyncMutex.Releaser held = await _writer.Mutex.LockAsync())
        {
            GuestCluster first = _geometry.GuestClusterOf(allocation.GuestOffset);
            MetadataSlice slice = await _tables.GetSliceForWriteAsync(first);
            int index = _tables.IndexInSlice(first);
            for (int i = 0; i < allocation.Run.Count; i++)
            {
                L2Entry old = _tables.Read(slice, index + i);
                _tables.Write(slice, index + i, Linked(old, allocation, i));
                if (!allocation.IsFill)
                {
                    _writer.Unlink(old);
                }
            }

            // Not only the edges: without this a power cut could keep the entry and lose the data, and show what the host cluster held before,
            // which is older than the guest's last flush. Mostly free, because dirty refcounts ask for the same flush.
            if (!HistoricBug.Is(Bug.I2TablesBeforeData))
            {
                _writer.Order.TablesAfterFlush();
            }
        }

        _writer.GuestClusters.Release(allocation.GuestLock);
    }

    /// <summary>Gives never-linked clusters back; where even that fails they leak.</summary>
    internal async ValueTask AbandonAsync(Qcow2Allocation allocation)
    {
        try
        {
            if (!allocation.IsFill)
            {
                using AsyncMutex.Releaser held = await _writer.Mutex.LockAsync();
                await _writer.Allocator.ReleaseAsync(allocation.Run);
            }
        }
        catch (BlockIOException)
        {
            // Leaked clusters are harmless, and the write's own error is the one to report.
        }
        finally
        {
            _writer.GuestClusters.Release(allocation.GuestLock);
        }
    }

    // A new cluster takes over what reads as zeros beside the range; a fill takes over everything beside it.
    private L2Entry Linked(L2Entry old, Qcow2Allocation allocation, int number)
    {
        L2Format format = _geometry.L2;
        uint written = WrittenSubclusters(allocation, number);
        uint data = allocation.IsFill ? format.DataMask(old) | written : written;
        return format.Own(_geometry.OffsetOf(allocation.Run.Start + number), data, format.ZeroMask(old) & ~written);
    }

    private uint WrittenSubclusters(Qcow2Allocation allocation, int number)
    {
        long cluster = _geometry.OffsetOf(_geometry.GuestClusterOf(allocation.GuestOffset) + number);
        long start = Math.Max(allocation.GuestOffset, cluster);
        long end = Math.Min(allocation.GuestOffset + allocation.GuestLength, cluster + _geometry.ClusterSize);
        int first = _geometry.SubclusterOf(start);
        return L2Format.MaskOf(first, _geometry.SubclusterOf(end - 1) - first + 1);
    }
}
