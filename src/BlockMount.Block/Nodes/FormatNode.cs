using System.Diagnostics;
using BlockMount.Base;
using BlockMount.Base.Buffers;
using BlockMount.Block.Index;
using BlockMount.Formats;

namespace BlockMount.Block.Nodes;

/// <summary>
/// An image: asks its driver where guest bytes live and moves them between the host file and the caller. Copy-on-write
/// is done by <see cref="CopyOnWrite"/>. Owns its driver and its backing node.
/// </summary>
public sealed class FormatNode : Node
{
    private readonly FormatDriver _driver;
    private readonly Node? _backing;
    private readonly CopyOnWrite _copyOnWrite;
    private readonly AlignedBufferPool _buffers = AlignedBufferPool.Shared;

    // Replaced only under exclusive use. Null: reads go to the backing node.
    private ChainIndex? _index;
    private long _indexBytes;

    /// <summary>Takes over <paramref name="driver"/> and <paramref name="backing"/>.</summary>
    public FormatNode(string name, string fileName, FormatDriver driver, Node? backing)
    {
        Name = name;
        FileName = fileName;
        _driver = driver;
        _backing = backing;
        _copyOnWrite = new CopyOnWrite(this, driver);
    }

    /// <inheritdoc/>
    public override string Name { get; }

    /// <inheritdoc/>
    public override string DriverName => _driver.FormatName;

    /// <inheritdoc/>
    public override string FileName { get; }

    /// <inheritdoc/>
    public override long Size => _driver.VirtualSize;

    /// <inheritdoc/>
    public override bool ReadOnly => _driver.ReadOnly;

    /// <inheritdoc/>
    public override long AllocatedBytes => _driver.AllocatedBytes;

    /// <inheritdoc/>
    public override int ClusterSize => _driver.ClusterSize;

    /// <inheritdoc/>
    public override Node? Backing => _backing;

    /// <inheritdoc/>
    public override Storage.StorageFile? FlatFile => _backing is null ? _driver.FlatFile : null;

    /// <inheritdoc/>
    public override IInternalSnapshots? Snapshots => _driver.Snapshots;

    /// <inheritdoc/>
    public override long IndexBytes => _indexBytes;

    /// <summary>Where this image's bytes are; for an index above, which moves them itself.</summary>
    internal FormatDriver Driver => _driver;

    /// <summary>The map of what lies below; null if there is none.</summary>
    internal ChainIndex? Index => _index;

    /// <inheritdoc/>
    public override void IndexBelow(long bytes)
    {
        _indexBytes = bytes;
        _index = _backing is null ? null : ChainIndex.TryCreate(_backing, bytes);
    }

    /// <inheritdoc/>
    public override async ValueTask ReadAsync(long offset, Memory<byte> buffer)
    {
        using MapLease lease = _driver.EnterLease();
        while (!buffer.IsEmpty)
        {
            Mapping mapping = await _driver.MapAsync(offset, buffer.Length, MapPurpose.Transfer);
            Memory<byte> part = buffer[..(int)mapping.Length];
            switch (mapping.Kind)
            {
                case MappingKind.Data:
                    await mapping.File!.ReadAsync(mapping.FileOffset, part);
                    break;
                case MappingKind.Zero:
                    part.Span.Clear();
                    break;
                case MappingKind.Backing:
                    await ReadBackingAsync(offset, part);
                    break;
                case MappingKind.Compressed:
                    await _driver.ReadCompressedAsync(mapping, offset, part);
                    break;
                default:
                    throw new UnreachableException();
            }

            offset += mapping.Length;
            buffer = buffer[(int)mapping.Length..];
        }
    }

    /// <inheritdoc/>
    public override async ValueTask WriteAsync(long offset, ReadOnlyMemory<byte> buffer)
    {
        MapLease lease = _driver.EnterLease();
        try
        {
            while (!buffer.IsEmpty)
            {
                WritePlan plan = await _driver.PrepareWriteAsync(offset, buffer.Length);
                if (plan.MustWait)
                {
                    // Without a lease of our own: it would be one of those that are waited for.
                    lease.Dispose();
                    lease = default;
                    await _driver.OlderRequestsEndedAsync();
                    lease = _driver.EnterLease();
                    continue;
                }

                ReadOnlyMemory<byte> part = buffer[..(int)plan.Length];
                if (plan.Allocation is null)
                {
                    await plan.File.WriteAsync(plan.FileOffset, part);
                }
                else
                {
                    await _copyOnWrite.WriteAsync(plan, plan.Allocation, offset, part);
                }

                offset += plan.Length;
                buffer = buffer[(int)plan.Length..];
            }
        }
        finally
        {
            lease.Dispose();
        }
    }

    /// <inheritdoc/>
    public override async ValueTask WriteCompressedAsync(long offset, ReadOnlyMemory<byte> buffer)
    {
        long end = offset + buffer.Length;
        if (!Alignment.IsAligned(offset, ClusterSize) || (end != Size && !Alignment.IsAligned(end, ClusterSize)))
        {
            throw new BlockIOException(
                Errno.EINVAL, $"compressed write of {buffer.Length} bytes at {offset} to '{FileName}', which are not whole clusters of {ClusterSize} bytes");
        }

        while (!buffer.IsEmpty)
        {
            ReadOnlyMemory<byte> cluster = buffer[..Math.Min(ClusterSize, buffer.Length)];
            bool stored;
            using (MapLease lease = _driver.EnterLease())
            {
                stored = await _driver.WriteCompressedAsync(offset, cluster);
            }

            if (!stored)
            {
                await WriteAsync(offset, cluster);
            }

            offset += cluster.Length;
            buffer = buffer[cluster.Length..];
        }
    }

    /// <inheritdoc/>
    public override async ValueTask ZeroAsync(long offset, long length, ZeroFlags flags)
    {
        WholeClusters units = WholeClusters.Of(offset, length, _driver.ZeroUnit, Size);
        await ZeroPartOfUnitAsync(offset, units.HeadLength);
        long end = units.Offset + units.Length;
        for (long start = units.Offset; start < end;)
        {
            long step = ZeroStep(start, end);
            await ZeroUnitsAsync(start, step, flags);
            start += step;
        }

        await ZeroPartOfUnitAsync(end, units.TailLength);
    }

    /// <inheritdoc/>
    public override async ValueTask DiscardAsync(long offset, long length)
    {
        WholeClusters range = WholeClusters.Of(offset, length, _driver.ClusterSize, Size);
        if (range.Length > 0)
        {
            using MapLease lease = _driver.EnterLease();
            await _driver.DiscardAsync(range.Offset, range.Length);
        }
    }

    /// <inheritdoc/>
    public override ValueTask FlushAsync() => _driver.FlushAsync();

    /// <inheritdoc/>
    public override async ValueTask<BlockStatus> StatusAsync(long offset, long length, MapPurpose purpose)
    {
        Mapping mapping = await ChainStatus.MapAsync(_driver, offset, length, purpose);
        return mapping.Kind == MappingKind.Backing
            ? await BackingStatusAsync(offset, mapping.Length, purpose)
            : ChainStatus.StatusOf(mapping, depth: 1);
    }

    /// <inheritdoc/>
    public override async ValueTask ResizeAsync(long size, Preallocation preallocation = Preallocation.Off)
    {
        long oldSize = Size;
        // A backing file longer than the old disk must not show through in the new space, not even after a crash. The rest of the old last
        // cluster may hold what an earlier shrink cut off: where it is shared with a snapshot or compressed, this copies it.
        long clusterEnd = Math.Min(size, Alignment.Up(oldSize, _driver.ClusterSize));
        long hiddenEnd = Math.Max(clusterEnd, Math.Min(size, _backing?.Size ?? 0));
        await _driver.ResizeAsync(
            size, hiddenEnd > oldSize ? () => ZeroAsync(oldSize, hiddenEnd - oldSize, ZeroFlags.MayUnmap) : null, preallocation);
    }

    /// <inheritdoc/>
    public override async ValueTask DisposeAsync()
    {
        try
        {
            await _driver.DisposeAsync();
        }
        finally
        {
            if (_backing is not null)
            {
                await _backing.DisposeAsync();
            }
        }
    }

    private async ValueTask ReadBackingAsync(long offset, Memory<byte> part)
    {
        // An overlay may be longer than its backing file (RELIABILITY D15): the rest reads as zeros.
        int fromBacking = _backing is null ? 0 : (int)Math.Clamp(_backing.Size - offset, 0, part.Length);
        part.Span[fromBacking..].Clear();
        if (fromBacking > 0)
        {
            await (_index is null ? _backing!.ReadAsync(offset, part[..fromBacking]) : _index.ReadAsync(offset, part[..fromBacking]));
        }
    }

    private async ValueTask<BlockStatus> BackingStatusAsync(long offset, long length, MapPurpose purpose)
    {
        if (purpose == MapPurpose.Transfer && _index is not null && offset < _backing!.Size)
        {
            (long covered, bool isZero) = await _index.FindZerosAsync(offset, Math.Min(length, _backing.Size - offset));
            return new BlockStatus(covered, isZero, IsAllocated: !isZero, Depth: isZero ? 0 : 2);
        }

        return await ChainStatus.FindAsync(_backing, depth: 2, offset, length, purpose);
    }

    // Whole clusters at once, parts of clusters one by one: what a driver zeroes in one call.
    private long ZeroStep(long start, long end)
    {
        long wholeEnd = end == Size ? end : Alignment.Down(end, _driver.ClusterSize);
        return Alignment.IsAligned(start, _driver.ClusterSize) && start < wholeEnd
            ? wholeEnd - start
            : Math.Min(end, Alignment.Up(start + 1, _driver.ClusterSize)) - start;
    }

    private async ValueTask ZeroUnitsAsync(long offset, long length, ZeroFlags flags)
    {
        bool done;
        using (MapLease lease = _driver.EnterLease())
        {
            done = await _driver.ZeroAsync(offset, length, flags);
        }

        if (!done)
        {
            await WriteZeroBytesAsync(offset, length);
        }
    }

    private async ValueTask ZeroPartOfUnitAsync(long offset, long length)
    {
        while (length > 0)
        {
            BlockStatus status = await StatusAsync(offset, length, MapPurpose.Status);
            if (!status.IsZero)
            {
                await WriteZeroBytesAsync(offset, status.Length);
            }

            offset += status.Length;
            length -= status.Length;
        }
    }

    private async ValueTask WriteZeroBytesAsync(long offset, long length)
    {
        AlignedBuffer buffer = _buffers.Rent((int)Math.Min(length, 1 << 20));
        try
        {
            buffer.GetSpan().Clear();
            while (length > 0)
            {
                int step = (int)Math.Min(length, buffer.Length);
                await WriteAsync(offset, buffer.Memory[..step]);
                offset += step;
                length -= step;
            }
        }
        finally
        {
            _buffers.Return(buffer);
        }
    }
}
