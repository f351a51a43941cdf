using System.Diagnostics;
using BlockMount.Base;
using BlockMount.Base.Buffers;
using BlockMount.Formats;

namespace BlockMount.Block.Nodes;

/// <summary>
/// An image: asks its driver where guest bytes live and moves them between the host file and the caller. Copy-on-write
/// happens here. Owns its driver and its backing node.
/// </summary>
public sealed class FormatNode : Node
{
    // Head and tail of an allocation are assembled with the data into one write when all of it fits in here.
    private const int AssembleBytesMax = 256 << 10;

    private readonly FormatDriver _driver;
    private readonly Node? _backing;
    private readonly AlignedBufferPool _buffers = AlignedBufferPool.Shared;

    /// <summary>Takes over <paramref name="driver"/> and <paramref name="backing"/>.</summary>
    public FormatNode(string name, string fileName, FormatDriver driver, Node? backing)
    {
        Name = name;
        FileName = fileName;
        _driver = driver;
        _backing = backing;
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
    public override IInternalSnapshots? Snapshots => _driver.Snapshots;

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
        using MapLease lease = _driver.EnterLease();
        while (!buffer.IsEmpty)
        {
            WritePlan plan = await _driver.PrepareWriteAsync(offset, buffer.Length);
            ReadOnlyMemory<byte> part = buffer[..(int)plan.Length];
            if (plan.Allocation is null)
            {
                await plan.File.WriteAsync(plan.FileOffset, part);
            }
            else
            {
                await WriteNewClustersAsync(plan, plan.Allocation, offset, part);
            }

            offset += plan.Length;
            buffer = buffer[(int)plan.Length..];
        }
    }

    /// <inheritdoc/>
    public override async ValueTask ZeroAsync(long offset, long length, ZeroFlags flags)
    {
        WholeClusters range = WholeClusters.Of(offset, length, _driver.ClusterSize, Size);
        await ZeroPartOfClusterAsync(offset, range.HeadLength);
        if (range.Length > 0)
        {
            bool done;
            using (MapLease lease = _driver.EnterLease())
            {
                done = await _driver.ZeroAsync(range.Offset, range.Length, flags);
            }

            if (!done)
            {
                await WriteZeroBytesAsync(range.Offset, range.Length);
            }
        }

        await ZeroPartOfClusterAsync(range.Offset + range.Length, range.TailLength);
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
        using MapLease lease = _driver.EnterLease();
        Mapping mapping = await _driver.MapAsync(offset, length, purpose);
        switch (mapping.Kind)
        {
            case MappingKind.Data:
            case MappingKind.Compressed:
                return new BlockStatus(mapping.Length, IsZero: false, IsAllocated: true, Depth: 1);
            case MappingKind.Zero:
                return new BlockStatus(mapping.Length, IsZero: true, IsAllocated: mapping.File is not null, Depth: 1);
            case MappingKind.Backing:
                return await BackingStatusAsync(offset, mapping.Length, purpose);
            default:
                throw new UnreachableException();
        }
    }

    /// <inheritdoc/>
    public override async ValueTask ResizeAsync(long size)
    {
        long oldSize = Size;
        // A backing file longer than the old disk must not show through in the new space, not even after a crash. The rest of the old last
        // cluster may hold what an earlier shrink cut off: where it is shared with a snapshot or compressed, this copies it.
        long clusterEnd = Math.Min(size, Alignment.Up(oldSize, _driver.ClusterSize));
        long hiddenEnd = Math.Max(clusterEnd, Math.Min(size, _backing?.Size ?? 0));
        await _driver.ResizeAsync(size, hiddenEnd > oldSize ? () => ZeroAsync(oldSize, hiddenEnd - oldSize, ZeroFlags.MayUnmap) : null);
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
            await _backing!.ReadAsync(offset, part[..fromBacking]);
        }
    }

    private async ValueTask<BlockStatus> BackingStatusAsync(long offset, long length, MapPurpose purpose)
    {
        if (_backing is null || offset >= _backing.Size)
        {
            return new BlockStatus(length, IsZero: true, IsAllocated: false, Depth: 0);
        }

        BlockStatus below = await _backing.StatusAsync(offset, Math.Min(length, _backing.Size - offset), purpose);
        return below with { Depth = below.Depth == 0 ? 0 : below.Depth + 1 };
    }

    // Edges and data first, the L2 entry last (I1): a crash before the commit leaks clusters and never shows stale data.
    private async ValueTask WriteNewClustersAsync(WritePlan plan, PendingAllocation allocation, long offset, ReadOnlyMemory<byte> part)
    {
        try
        {
            int headLength = (int)(offset - allocation.GuestOffset);
            int tailLength = (int)(allocation.GuestOffset + allocation.GuestLength - offset - part.Length);
            bool writeHead = headLength > 0 && !await EdgeIsZeroAsync(allocation, allocation.GuestOffset, headLength);
            bool writeTail = tailLength > 0 && !await EdgeIsZeroAsync(allocation, offset + part.Length, tailLength);
            int first = writeHead ? headLength : 0;
            int last = writeTail ? tailLength : 0;
            if (first + last == 0)
            {
                await plan.File.WriteAsync(plan.FileOffset, part);
            }
            else if (first + part.Length + last <= AssembleBytesMax)
            {
                await WriteAssembledAsync(plan, offset, part, first, last);
            }
            else
            {
                await CopyEdgeAsync(plan, offset - first, first, plan.FileOffset - first);
                await plan.File.WriteAsync(plan.FileOffset, part);
                await CopyEdgeAsync(plan, offset + part.Length, last, plan.FileOffset + part.Length);
            }

            await _driver.CommitWriteAsync(allocation);
        }
        catch
        {
            await _driver.AbandonWriteAsync(allocation);
            throw;
        }
    }

    // True when the new clusters read as zeros already and so does what the guest sees at the edge now.
    private async ValueTask<bool> EdgeIsZeroAsync(PendingAllocation allocation, long offset, long length)
    {
        if (!allocation.ReadsAsZero)
        {
            return false;
        }

        long end = Math.Min(offset + length, Size);
        while (offset < end)
        {
            // What only the host's file system could tell is not asked: that would cost each small write several system calls.
            BlockStatus status = await StatusAsync(offset, end - offset, MapPurpose.Transfer);
            if (!status.IsZero)
            {
                return false;
            }

            offset += status.Length;
        }

        return true;
    }

    private async ValueTask WriteAssembledAsync(WritePlan plan, long offset, ReadOnlyMemory<byte> part, int first, int last)
    {
        int total = first + part.Length + last;
        AlignedBuffer buffer = _buffers.Rent(total);
        try
        {
            Memory<byte> all = buffer.Memory[..total];
            await ReadOldAsync(offset - first, all[..first]);
            part.CopyTo(all[first..]);
            await ReadOldAsync(offset + part.Length, all[(first + part.Length)..]);
            await plan.File.WriteAsync(plan.FileOffset - first, all);
        }
        finally
        {
            _buffers.Return(buffer);
        }
    }

    private async ValueTask CopyEdgeAsync(WritePlan plan, long offset, int length, long fileOffset)
    {
        if (length == 0)
        {
            return;
        }

        AlignedBuffer buffer = _buffers.Rent(length);
        try
        {
            Memory<byte> edge = buffer.Memory[..length];
            await ReadOldAsync(offset, edge);
            await plan.File.WriteAsync(fileOffset, edge);
        }
        finally
        {
            _buffers.Return(buffer);
        }
    }

    // What the guest sees now; past the end of the disk zeros. The tables do not point to the new clusters yet.
    private async ValueTask ReadOldAsync(long offset, Memory<byte> buffer)
    {
        int inside = (int)Math.Clamp(Size - offset, 0, buffer.Length);
        buffer.Span[inside..].Clear();
        if (inside > 0)
        {
            await ReadAsync(offset, buffer[..inside]);
        }
    }

    private async ValueTask ZeroPartOfClusterAsync(long offset, long length)
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
