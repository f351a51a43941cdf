using BlockMount.Base.Async;
using BlockMount.Formats.Qcow2.Metadata;
using BlockMount.Formats.Qcow2.OnDisk;

namespace BlockMount.Formats.Qcow2.Translation;

/// <summary>
/// Makes every cluster of a raw data file allocated, so that what is written there later is the guest's at once: an entry that comes after the data
/// would, after a power cut, leave a raw image that is another disk than the guest's.
/// </summary>
internal sealed class RawDataLinks
{
    private readonly Geometry _geometry;
    private readonly GuestTables _tables;
    private readonly MetadataWriter _writer;

    internal RawDataLinks(Geometry geometry, GuestTables tables, MetadataWriter writer)
    {
        _geometry = geometry;
        _tables = tables;
        _writer = writer;
    }

    /// <summary>
    /// Links all clusters that the guest bytes from <paramref name="start"/> to <paramref name="end"/> touch. The file holds there what the guest reads.
    /// Needs exclusive use.
    /// </summary>
    internal async ValueTask LinkAsync(long start, long end)
    {
        GuestCluster cluster = _geometry.GuestClusterOf(start);
        GuestCluster behind = new(_geometry.ClustersFor(end));
        while (cluster.Index < behind.Index)
        {
            long here = Math.Min(behind - cluster, _geometry.L2SliceEntries - _tables.IndexInSlice(cluster));
            await LinkInSliceAsync(cluster, (int)here);
            cluster += here;
        }
    }

    private async ValueTask LinkInSliceAsync(GuestCluster first, int count)
    {
        using AsyncMutex.Releaser held = await _writer.Mutex.LockAsync();
        await _writer.RelieveAsync();
        await _writer.L2Tables.EnsureWritableAsync(first);
        MetadataSlice slice = await _tables.GetSliceForWriteAsync(first);
        int index = _tables.IndexInSlice(first);
        for (int i = 0; i < count; i++)
        {
            L2Entry linked = _geometry.L2.Own(_geometry.OffsetOf(first + i), _geometry.L2.AllSubclusters, 0);
            if (_tables.Read(slice, index + i) != linked)
            {
                _tables.Write(slice, index + i, linked);
            }
        }

        _writer.Order.TablesAfterFlush();
    }
}
