using System.Buffers.Binary;
using BlockMount.Base;
using BlockMount.Base.Buffers;
using BlockMount.Formats.Qcow2.OnDisk;
using BlockMount.Storage;

namespace BlockMount.Formats.Qcow2.Metadata;

/// <summary>
/// Builds the refcount structure that holds after a <see cref="ShadowChange"/>, beside the present one: a new table, and new copies of those
/// blocks in which a count changes (of all of them if the width changes). The present structure is not touched but for the allocation of what is
/// new. Memory: one <see cref="ReferenceWindow"/>, one cluster, and 9 bytes for each block. Under the metadata mutex.
/// </summary>
internal sealed class ShadowRefcounts : IReferenceSink
{
    // Runs of freed clusters whose space may go back to the host; those beyond are only free.
    private const int FreedRunsMax = 65536;
    private const int TableBytesMax = Qcow2Limits.RefcountTableBytesMax;

    private readonly StorageFile _file;
    private readonly Geometry _geometry;
    private readonly RefcountTable _present;
    private readonly ShadowChange _change;
    private readonly int _order;
    private readonly int _windowClusters;
    private readonly List<HostRun> _freed = [];

    private readonly NewRefcountBlocks _blocks = new();

    /// <param name="order">log2 of the width of the new refcounts in bits.</param>
    /// <param name="windowClusters">Host clusters that are counted at once.</param>
    internal ShadowRefcounts(
        StorageFile file, Geometry geometry, RefcountTable present, ShadowChange change, int order, int windowClusters = ReferenceWindow.ClustersMax)
    {
        _file = file;
        _geometry = geometry;
        _present = present;
        _change = change;
        _order = order;
        _windowClusters = windowClusters;
    }

    /// <summary>Clusters that nobody refers to after the change; valid after <see cref="BuildAsync"/>. A part of them if there are very many runs.</summary>
    internal IReadOnlyList<HostRun> Freed => _freed;

    private bool IsRewrittenWhole => _order != _geometry.RefcountOrder;

    private int BlockBits => _geometry.ClusterBits + 3 - _order;

    private ulong RefcountMax => _order == 6 ? ulong.MaxValue : (1UL << (1 << _order)) - 1;

    /// <summary>
    /// Looks whether <paramref name="changes"/> to existing clusters are possible, before anything is allocated: in a damaged image the clusters that
    /// count as free may be in use.
    /// </summary>
    /// <exception cref="BlockIOException">As <see cref="BuildAsync"/>.</exception>
    internal async ValueTask CheckAsync(IReferenceChanges changes)
    {
        long end = PresentEnd();
        ReferenceWindow window = new(ReferenceWindow.LengthFor(end, _windowClusters));
        for (long start = 0; start < end; start += window.Length)
        {
            window.MoveTo(new HostCluster(start));
            await changes.ReportAsync(window);
            if (window.Highest >= end)
            {
                throw Damaged(new HostCluster(window.Highest), "is in use, but lies where nothing is counted");
            }

            for (int i = 0; window.IsTouched && i < window.Length; i++)
            {
                HostCluster cluster = window.Start + i;
                if (window[cluster] != 0)
                {
                    NewCount(cluster, await _present.GetAsync(cluster), window[cluster]);
                }
            }
        }
    }

    /// <summary>Writes the new structure for the present counts plus <paramref name="changes"/>. It is durable after the next flush.</summary>
    /// <returns>The clusters of the new refcount table.</returns>
    /// <exception cref="BlockIOException">
    /// EINVAL: a count would not fit its width. EIO: the image is damaged, a cluster in use has no count. Nothing of the present structure has
    /// changed but for allocations.
    /// </exception>
    internal async ValueTask<HostRun> BuildAsync(IReferenceChanges changes)
    {
        await changes.ReportAsync(this);
        HostRun table = await PlaceAsync();
        // From here on nothing is allocated, so the present counts stand still.
        await _change.WriteBackAsync();
        await WriteBlocksAsync(changes);
        await WriteTableAsync(table);
        return table;
    }

    /// <summary>Marks the block that counts the cluster.</summary>
    void IReferenceSink.Add(HostCluster cluster, int delta)
    {
        long block = cluster.Index >> BlockBits;
        if (block >= TableBytesMax / sizeof(ulong))
        {
            throw Damaged(cluster, "lies where no refcount table reaches");
        }

        _blocks.Mark(block);
    }

    // A place for each marked block and for the table. Taking clusters may create blocks and move the present table, and every present block that
    // is replaced is itself counted in some block: until nothing new comes up.
    private async ValueTask<HostRun> PlaceAsync()
    {
        HostRun? table = null;
        while (true)
        {
            MarkUntilClosed();
            bool placed = await _blocks.PlaceAsync(_change, _geometry);
            long clusters = Alignment.DivideUp(EntriesNeeded() * sizeof(ulong), _geometry.ClusterSize);
            if (table is null || table.Value.Count < clusters)
            {
                placed = true;
                table = await ReplaceTableRunAsync(table, clusters);
            }

            if (!placed)
            {
                return table.Value;
            }
        }
    }

    private async ValueTask<HostRun> ReplaceTableRunAsync(HostRun? previous, long clusters)
    {
        if (clusters << _geometry.ClusterBits > TableBytesMax)
        {
            throw new BlockIOException(Errno.EFBIG, $"a refcount table of more than {TableBytesMax} bytes for '{_file.Name}'");
        }

        if (previous is { } run)
        {
            await _change.ReturnAsync(run);
        }

        return await _change.AllocateAsync(clusters);
    }

    private void MarkUntilClosed()
    {
        do
        {
            if (IsRewrittenWhole)
            {
                for (long block = PresentEnd() - 1 >> BlockBits; block >= 0; block--)
                {
                    _blocks.Mark(block);
                }
            }

            ReportReplaced(this);
        }
        while (_blocks.HasGrown());
    }

    // What the present structure loses: its table, and the blocks that are replaced.
    private void ReportReplaced(IReferenceSink sink)
    {
        sink.Add(_present.Location, -1);
        for (long block = 0; block < _present.EntryCount; block++)
        {
            long offset = _present.BlockOffset(block);
            if (offset != 0 && (IsRewrittenWhole || _blocks.Contains(block)))
            {
                sink.Add(_geometry.HostClusterOf(offset), -1);
            }
        }
    }

    // The cluster behind the last one that the present structure can count.
    private long PresentEnd()
    {
        int last = _present.EntryCount - 1;
        while (last >= 0 && _present.BlockOffset(last) == 0)
        {
            last--;
        }

        return (last + 1L) << _geometry.RefcountBlockBits;
    }

    private long EntriesNeeded() => IsRewrittenWhole ? _blocks.End : Math.Max(_present.EntryCount, _blocks.End);

    private async ValueTask WriteBlocksAsync(IReferenceChanges changes)
    {
        long end = _blocks.End << BlockBits;
        ReferenceWindow window = new(ReferenceWindow.LengthFor(end, _windowClusters));
        AlignedBuffer buffer = AlignedBufferPool.Shared.Rent(_geometry.ClusterSize);
        try
        {
            for (long start = 0; start < end; start += window.Length)
            {
                if (!_blocks.ContainsAny(start >> BlockBits, (start + window.Length - 1) >> BlockBits))
                {
                    continue;
                }

                window.MoveTo(new HostCluster(start));
                await changes.ReportAsync(window);
                ReportReplaced(window);
                await WriteWindowAsync(window, buffer);
            }
        }
        finally
        {
            AlignedBufferPool.Shared.Return(buffer);
        }
    }

    private async ValueTask WriteWindowAsync(ReferenceWindow window, AlignedBuffer buffer)
    {
        long windowEnd = window.Start.Index + window.Length;
        for (long block = window.Start.Index >> BlockBits; block <= (windowEnd - 1) >> BlockBits; block++)
        {
            if (!_blocks.Contains(block))
            {
                continue;
            }

            long blockStart = block << BlockBits;
            long first = Math.Max(blockStart, window.Start.Index);
            int count = (int)(Math.Min(blockStart + (1L << BlockBits), windowEnd) - first);
            Memory<byte> piece = buffer.Memory[..(int)(((long)count << _order) / 8)];
            for (int i = 0; i < count; i++)
            {
                HostCluster cluster = new(first + i);
                ulong before = await _present.GetAsync(cluster);
                ulong after = NewCount(cluster, before, window[cluster]);
                RefcountEntry.Write(piece.Span, i, _order, after);
                if (after == 0 && before > 0)
                {
                    AddFreed(cluster);
                }
            }

            await _file.WriteAsync(_blocks.PlaceOf(block) + (((first - blockStart) << _order) / 8), piece);
        }
    }

    private ulong NewCount(HostCluster cluster, ulong before, int delta)
    {
        if (delta != 0 && before == 0)
        {
            throw Damaged(cluster, "is in use, but its refcount is 0");
        }

        if (delta < 0 && before < (ulong)-(long)delta)
        {
            throw Damaged(cluster, $"has refcount {before}, but more references than that");
        }

        // The sum is taken with care: 64-bit counts may be next to their end.
        ulong after = delta < 0 ? before - (ulong)-(long)delta : before + (ulong)delta;
        if (after > RefcountMax || (delta > 0 && after < before))
        {
            throw new BlockIOException(
                Errno.EINVAL,
                $"refcount of cluster {cluster.Index} in '{_file.Name}', which would be {before} + {delta}, more than {RefcountMax}",
                "The image has refcounts of too few bits: convert it to one with refcount_bits=16");
        }

        return after;
    }

    private void AddFreed(HostCluster cluster)
    {
        if (_freed.Count > 0 && _freed[^1] is var last && last.End == cluster)
        {
            _freed[^1] = new HostRun(last.Start, last.Count + 1);
        }
        else if (_freed.Count < FreedRunsMax)
        {
            _freed.Add(new HostRun(cluster, 1));
        }
    }

    private async ValueTask WriteTableAsync(HostRun table)
    {
        int perCluster = _geometry.ClusterSize / sizeof(ulong);
        AlignedBuffer buffer = AlignedBufferPool.Shared.Rent(_geometry.ClusterSize);
        try
        {
            Memory<byte> cluster = buffer.Memory[.._geometry.ClusterSize];
            for (long i = 0; i < table.Count; i++)
            {
                for (int k = 0; k < perCluster; k++)
                {
                    BinaryPrimitives.WriteInt64BigEndian(cluster.Span[(k * sizeof(ulong))..], EntryOf((i * perCluster) + k));
                }

                await _file.WriteAsync(_geometry.OffsetOf(table.Start + i), cluster);
            }
        }
        finally
        {
            AlignedBufferPool.Shared.Return(buffer);
        }
    }

    private long EntryOf(long block)
    {
        if (_blocks.Contains(block))
        {
            return _blocks.PlaceOf(block);
        }

        return IsRewrittenWhole ? 0 : _present.BlockOffset(block);
    }

    private BlockIOException Damaged(HostCluster cluster, string what) => new(
        Errno.EIO, $"cluster {cluster.Index} of '{_file.Name}' {what}", "The image is damaged: stop writing to it and run 'blockmount check'");
}
