using BlockMount.Base;
using BlockMount.Base.Async;
using BlockMount.Formats.Qcow2.Metadata;
using BlockMount.Formats.Qcow2.Translation;
using BlockMount.Storage;

namespace BlockMount.Formats.Qcow2;

/// <summary>
/// Changes the virtual size. Needs exclusive use of the image. Every step is on disk before the next: a crash leaves the old or the
/// new size, never data from beyond the end.
/// </summary>
internal sealed class Qcow2Resize
{
    private const int L1BytesMax = 32 << 20;
    private const int SectorSize = 512;

    private readonly StorageFile _file;
    private readonly Geometry _geometry;
    private readonly GuestTables _tables;
    private readonly MappingLookup _lookup;
    private readonly MetadataWriter _writer;
    private readonly DropClusters _drop;
    private readonly RawDataFile? _rawData;

    /// <param name="rawData">The raw data file; null where there is none or its length does not matter.</param>
    internal Qcow2Resize(
        StorageFile file,
        Geometry geometry,
        GuestTables tables,
        MappingLookup lookup,
        MetadataWriter writer,
        DropClusters drop,
        RawDataFile? rawData)
    {
        _rawData = rawData;
        _file = file;
        _geometry = geometry;
        _tables = tables;
        _lookup = lookup;
        _writer = writer;
        _drop = drop;
    }

    /// <summary>Refuses sizes that the format cannot have.</summary>
    internal void Check(long newSize)
    {
        if (newSize < 0 || newSize % SectorSize != 0)
        {
            throw new BlockIOException(
                Errno.EINVAL, $"resize of '{_file.Name}' to {newSize} bytes", $"The size of a qcow2 image is a multiple of {SectorSize} bytes");
        }

        if (_geometry.L1EntriesFor(newSize) > L1BytesMax / sizeof(ulong))
        {
            throw new BlockIOException(
                Errno.EFBIG,
                $"resize of '{_file.Name}' to {newSize} bytes",
                $"With clusters of {_geometry.ClusterSize} bytes an image holds at most {L1BytesMax / sizeof(ulong) * _geometry.L1EntryCoverage} bytes");
        }
    }

    /// <summary>
    /// Prepares for a larger size: everything from the old end on reads as zeros (or as the backing file), and the L1 table is long enough.
    /// </summary>
    internal async ValueTask MakeRoomAsync(long oldSize, long newSize)
    {
        // What an earlier shrink or another program left behind the end must not come to light.
        await ForgetBeyondAsync(oldSize);
        if (_rawData is null)
        {
            await ZeroRestOfLastClusterAsync(oldSize);
        }

        if (_geometry.L1EntriesFor(newSize) > _tables.L1.Count)
        {
            await MoveL1Async((int)_geometry.L1EntriesFor(newSize));
        }

        if (_rawData is not null)
        {
            await _rawData.GrowAsync(oldSize, newSize);
            await new RawDataLinks(_geometry, _tables, _writer).LinkAsync(oldSize, newSize);
        }
    }

    /// <summary>Flushes everything, then makes the new size durable.</summary>
    internal async ValueTask WriteSizeAsync(long size)
    {
        await _writer.FlushAsync();
        await HeaderUpdate.WriteSizeAsync(_file, _writer.Order, size);
    }

    /// <summary>Frees what lies behind the new end of a disk that became shorter.</summary>
    internal async ValueTask FreeBeyondAsync(long size)
    {
        await ForgetBeyondAsync(size);
        await _writer.FlushAsync();
        if (_rawData is not null)
        {
            await _rawData.ShrinkAsync(size);
        }
    }

    /// <summary>The same after growing failed, as far as possible: what was preallocated goes back.</summary>
    internal async ValueTask TryFreeBeyondAsync(long size)
    {
        try
        {
            await FreeBeyondAsync(size);
        }
        catch (BlockIOException)
        {
            // Nothing behind the end is visible, and the next resize forgets it. The first error is the one to tell.
        }
    }

    private ValueTask ForgetBeyondAsync(long size)
    {
        GuestCluster first = new(_geometry.ClustersFor(size));
        long described = (long)_tables.L1.Count * _geometry.L2Entries;
        return first.Index < described ? _drop.ForgetAsync(first, described - first.Index) : ValueTask.CompletedTask;
    }

    private async ValueTask ZeroRestOfLastClusterAsync(long size)
    {
        long end = Alignment.Up(size, _geometry.ClusterSize);
        while (size < end)
        {
            await _lookup.LoadAsync(size);
            if (_lookup.TryPlanInPlace(size, end - size, out WritePlan plan))
            {
                await plan.File.WriteZeroesAsync(plan.FileOffset, plan.Length, mayUnmap: false);
                size += plan.Length;
            }
            else
            {
                // What is shared or compressed the caller copies and zeroes: it sees the new space before others do.
                size += _geometry.SubclusterSize - (size & (_geometry.SubclusterSize - 1));
            }
        }
    }

    private async ValueTask MoveL1Async(int count)
    {
        using AsyncMutex.Releaser held = await _writer.Mutex.LockAsync();
        L1Table old = _tables.L1;
        HostRun run = await _writer.Allocator.AllocateContiguousAsync(_geometry.ClustersFor((long)count * sizeof(ulong)));
        L1Table moved;
        _writer.Checks.Add(run, MetadataKinds.ActiveL1);
        try
        {
            moved = await old.CopyToAsync(_geometry.OffsetOf(run.Start), count, _geometry.ClusterSize);
            // Refcounts, tables and the copy are on disk before the header names it.
            await _writer.Order.WriteBackAsync(old);
            await _file.FlushAsync();
        }
        catch
        {
            _writer.Checks.Remove(run, MetadataKinds.ActiveL1);
            await _writer.Allocator.ReleaseAsync(run);
            throw;
        }

        await HeaderUpdate.WriteL1TableAsync(_file, _writer.Order, _geometry.OffsetOf(run.Start), count);
        _tables.Replace(moved);
        HostRun oldRun = new(_geometry.HostClusterOf(old.HostOffset), _geometry.ClustersFor((long)old.Count * sizeof(ulong)));
        _writer.Checks.Remove(oldRun, MetadataKinds.ActiveL1);
        _writer.Unlink(oldRun);
    }
}
