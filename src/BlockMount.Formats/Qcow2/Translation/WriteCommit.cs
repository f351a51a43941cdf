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

    /// <summary>Points the L2 entries to the new clusters. All or nothing: they lie in one slice.</summary>
    internal async ValueTask CommitAsync(Qcow2Allocation allocation)
    {
        using (AsyncMutex.Releaser held = await _writer.Mutex.LockAsync())
        {
            MetadataSlice slice = await _tables.GetSliceForWriteAsync(allocation.First);
            int index = _tables.IndexInSlice(allocation.First);
            for (int i = 0; i < allocation.Run.Count; i++)
            {
                L2Entry old = new(slice.ReadEntry(index + i));
                slice.WriteEntry(index + i, L2Entry.ForData(_geometry.OffsetOf(allocation.Run.Start + i)).Raw);
                if (!allocation.IsReuse)
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
            if (!allocation.IsReuse)
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
}
