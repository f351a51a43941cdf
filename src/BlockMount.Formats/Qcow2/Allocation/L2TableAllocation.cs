using BlockMount.Base.Buffers;
using BlockMount.Formats.Qcow2.Metadata;
using BlockMount.Formats.Qcow2.OnDisk;
using BlockMount.Storage;

namespace BlockMount.Formats.Qcow2.Allocation;

/// <summary>
/// Makes sure that an L2 table exists and belongs to the active L1 table alone. Runs under the image's metadata mutex. A new
/// table's first content is in the file before the L1 entry is changed in memory, and flushed before that entry is written.
/// </summary>
public sealed class L2TableAllocation
{
    private readonly StorageFile _file;
    private readonly Geometry _geometry;
    private readonly GuestTables _tables;
    private readonly ClusterAllocator _allocator;
    private readonly FreedClusters _freed;
    private readonly WriteBackOrder _order;
    private readonly OverlapChecks _checks;

    public L2TableAllocation(
        StorageFile file,
        Geometry geometry,
        GuestTables tables,
        ClusterAllocator allocator,
        FreedClusters freed,
        WriteBackOrder order,
        OverlapChecks checks)
    {
        _checks = checks;
        _file = file;
        _geometry = geometry;
        _tables = tables;
        _allocator = allocator;
        _freed = freed;
        _order = order;
    }

    /// <summary>After this the L2 table of <paramref name="cluster"/> may be changed in place.</summary>
    public async ValueTask EnsureWritableAsync(GuestCluster cluster)
    {
        L1Entry entry = _tables.L1EntryOf(cluster);
        if (entry.IsPresent && entry.IsCopied)
        {
            // Before anything is changed in it; the write-back asks again.
            _checks.CheckTable(MetadataKinds.ActiveL2, entry.TableOffset, _geometry.ClusterSize);
            return;
        }

        if (entry.IsPresent)
        {
            // It is freed once it has been copied.
            _checks.CheckTable(MetadataKinds.ActiveL2, entry.TableOffset, _geometry.ClusterSize, sharedWith: MetadataKinds.InactiveL2);
        }

        (HostRun run, bool fresh) = await _allocator.AllocateAsync(1);
        long offset = _geometry.OffsetOf(run.Start);
        _checks.Add(run, MetadataKinds.ActiveL2);
        try
        {
            _tables.L2.Drop(offset, _geometry.ClusterSize);
            if (entry.IsPresent)
            {
                await CopyTableAsync(entry.TableOffset, offset);
            }
            else if (!fresh)
            {
                await _file.WriteZeroesAsync(offset, _geometry.ClusterSize, mayUnmap: false);
            }
        }
        catch
        {
            _checks.Remove(run, MetadataKinds.ActiveL2);
            await _allocator.ReleaseAsync(run);
            throw;
        }

        _order.TablesAfterFlush();
        _tables.L1.Set(_geometry.L1Index(cluster), L1Entry.ForOwnTable(offset));
        if (HistoricBug.Is(Bug.D4LiveTableHandedOut) && !fresh)
        {
            await _allocator.ReleaseAsync(run);
        }

        if (entry.IsPresent)
        {
            HostRun old = new(_geometry.HostClusterOf(entry.TableOffset), 1);
            _checks.Remove(old, MetadataKinds.ActiveL2);
            _freed.Unlinked(old, FreeReason.Other);
        }
    }

    // A table that is shared with a snapshot is never dirty, so the file has its content.
    private async ValueTask CopyTableAsync(long from, long to)
    {
        AlignedBuffer buffer = AlignedBufferPool.Shared.Rent(_geometry.ClusterSize);
        try
        {
            Memory<byte> table = buffer.Memory[.._geometry.ClusterSize];
            await _file.ReadAsync(from, table);
            await _file.WriteAsync(to, table);
        }
        finally
        {
            AlignedBufferPool.Shared.Return(buffer);
        }
    }
}
