using BlockMount.Base;
using BlockMount.Base.Buffers;
using BlockMount.Storage;

namespace BlockMount.Formats.Qcow2.Metadata;

/// <summary>
/// A structural change that happens at one instant: its new tables are written into free clusters, flushed, and put in force by one write of the
/// file's first sector. Before that write the image is the old one (after a crash with leaked clusters at most), after it the new one.
/// <para>
///     allocate, write ... -> <see cref="ShadowRefcounts"/> -> <see cref="FlushAsync"/> -> <see cref="SwitchAsync"/>
///             any failure: <see cref="GiveBackAsync"/>                                     failure: the image must be opened again
/// </para>
/// Needs exclusive use of the image, an empty quarantine, and the metadata mutex from the first call to the last.
/// </summary>
internal sealed class ShadowChange
{
    private readonly StorageFile _file;
    private readonly Geometry _geometry;
    private readonly GuestTables _tables;
    private readonly MetadataWriter _writer;
    private readonly List<HostRun> _allocated = [];

    internal ShadowChange(StorageFile file, Geometry geometry, GuestTables tables, MetadataWriter writer)
    {
        _file = file;
        _geometry = geometry;
        _tables = tables;
        _writer = writer;
    }

    /// <summary>The header is being written or has been: there is no way back.</summary>
    internal bool IsSwitching { get; private set; }

    /// <summary>Takes contiguous free clusters, with refcount 1 in the present structure. At least one.</summary>
    internal async ValueTask<HostRun> AllocateAsync(long clusters)
    {
        await _writer.RelieveAsync();
        HostRun run = clusters == 1
            ? (await _writer.Allocator.AllocateAsync(1)).Run
            : await _writer.Allocator.AllocateContiguousAsync(clusters);
        if (_allocated.Count > 0 && _allocated[^1] is var last && last.End == run.Start)
        {
            _allocated[^1] = new HostRun(last.Start, last.Count + run.Count);
        }
        else
        {
            _allocated.Add(run);
        }

        return run;
    }

    /// <summary>Takes as many clusters as <paramref name="length"/> bytes need and fills them with what <paramref name="fill"/> gives, then zeros.</summary>
    /// <param name="fill">Gets the position in the content and a clean buffer to fill from it on.</param>
    /// <returns>The clusters, at least one.</returns>
    internal async ValueTask<HostRun> WriteNewAsync(long length, FillAction fill)
    {
        HostRun run = await AllocateAsync(Math.Max(_geometry.ClustersFor(length), 1));
        AlignedBuffer buffer = AlignedBufferPool.Shared.Rent(_geometry.ClusterSize);
        try
        {
            Memory<byte> cluster = buffer.Memory[.._geometry.ClusterSize];
            for (long i = 0; i < run.Count; i++)
            {
                cluster.Span.Clear();
                long position = i << _geometry.ClusterBits;
                fill(position, cluster.Span[..(int)Math.Clamp(length - position, 0, cluster.Length)]);
                await _file.WriteAsync(_geometry.OffsetOf(run.Start + i), cluster);
            }
        }
        finally
        {
            AlignedBufferPool.Shared.Return(buffer);
        }

        return run;
    }

    /// <summary>Writes the refcounts of the present structure, which the new one relies on where it keeps blocks. Durable after <see cref="FlushAsync"/>.</summary>
    internal ValueTask WriteBackAsync() => _writer.Order.WriteBackAsync(_tables.L1, lazily: false);

    /// <summary>Makes everything written so far durable.</summary>
    internal ValueTask FlushAsync() => _file.FlushAsync();

    /// <summary>Puts the new tables in force. If it fails, nobody knows which are.</summary>
    internal async ValueTask SwitchAsync(HeaderSwitch next)
    {
        // Read now: growing the refcount table while allocating changes the header, too.
        byte[] sector = await HeaderUpdate.ReadFirstSectorAsync(_file);
        IsSwitching = true;
        await HeaderUpdate.WriteSwitchAsync(_file, _writer.Order, sector, next);
    }

    /// <summary>Returns the clusters of one run before the change is complete, because another place was found for it.</summary>
    internal async ValueTask ReturnAsync(HostRun run)
    {
        List<HostRun> kept = [];
        foreach (HostRun taken in _allocated)
        {
            AddIfAny(kept, taken.Start, Math.Min(taken.End.Index, run.Start.Index));
            AddIfAny(kept, new HostCluster(Math.Max(taken.Start.Index, run.End.Index)), taken.End.Index);
        }

        _allocated.Clear();
        _allocated.AddRange(kept);
        await _writer.Allocator.ReleaseAsync(run);
    }

    /// <summary>Returns everything that was taken: the image is as it was. Does not fail: at worst clusters leak.</summary>
    internal async ValueTask GiveBackAsync()
    {
        foreach (HostRun run in _allocated)
        {
            try
            {
                await _writer.Allocator.ReleaseAsync(run);
            }
            catch (BlockIOException)
            {
                // They leak. The error that led here is the one to tell.
            }
        }

        _allocated.Clear();
    }

    private static void AddIfAny(List<HostRun> runs, HostCluster start, long end)
    {
        if (end > start.Index)
        {
            runs.Add(new HostRun(start, end - start.Index));
        }
    }

    /// <summary>Fills <paramref name="destination"/>, which is zeroed, with a table's bytes from <paramref name="position"/> on.</summary>
    internal delegate void FillAction(long position, Span<byte> destination);
}
