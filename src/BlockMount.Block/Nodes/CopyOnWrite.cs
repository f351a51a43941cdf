using BlockMount.Base.Buffers;
using BlockMount.Formats;

namespace BlockMount.Block.Nodes;

/// <summary>Fills newly allocated places of an image: what the guest writes, and around it what it saw there before. Any thread, concurrently.</summary>
internal sealed class CopyOnWrite
{
    // Head and tail of an allocation are assembled with the data into one write when all of it fits in here.
    private const int AssembleBytesMax = 256 << 10;

    // As much is copied up at once.
    private const int CopyBytesMax = 1 << 20;

    private readonly Node _node;
    private readonly FormatDriver _driver;
    private readonly AlignedBufferPool _buffers = AlignedBufferPool.Shared;

    /// <param name="node">Asked for what the guest sees.</param>
    /// <param name="driver">That node's driver.</param>
    internal CopyOnWrite(Node node, FormatDriver driver)
    {
        _node = node;
        _driver = driver;
    }

    /// <summary>Edges and data first, the L2 entry last (I1): a crash before the commit leaks clusters and never shows stale data.</summary>
    internal async ValueTask WriteAsync(WritePlan plan, PendingAllocation allocation, long offset, ReadOnlyMemory<byte> part)
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

    /// <summary>
    /// Brings what the guest sees in the range up into this image, where the image has no place for it. The clusters are locked by the allocation while they are read and written, so a
    /// concurrent write comes before or after the whole of it; what it has given a place meanwhile is left alone.
    /// </summary>
    internal async ValueTask CopyUpAsync(long offset, long length)
    {
        MapLease lease = _driver.EnterLease();
        try
        {
            while (length > 0)
            {
                WritePlan plan = await _driver.PrepareWriteAsync(offset, Math.Min(length, CopyBytesMax));
                if (plan.MustWait)
                {
                    // Without a lease of our own: it would be one of those that are waited for.
                    lease.Dispose();
                    lease = default;
                    await _driver.OlderRequestsEndedAsync();
                    lease = _driver.EnterLease();
                    continue;
                }

                if (plan.Allocation is not null)
                {
                    await CopyAsync(plan, plan.Allocation, offset, (int)plan.Length);
                }

                offset += plan.Length;
                length -= plan.Length;
            }
        }
        finally
        {
            lease.Dispose();
        }
    }

    private async ValueTask CopyAsync(WritePlan plan, PendingAllocation allocation, long offset, int length)
    {
        AlignedBuffer buffer = _buffers.Rent(length);
        try
        {
            Memory<byte> content = buffer.Memory[..length];
            try
            {
                await ReadOldAsync(offset, content);
            }
            catch
            {
                await _driver.AbandonWriteAsync(allocation);
                throw;
            }

            await WriteAsync(plan, allocation, offset, content);
        }
        finally
        {
            _buffers.Return(buffer);
        }
    }

    // True when the new clusters read as zeros already and so does what the guest sees at the edge now.
    private async ValueTask<bool> EdgeIsZeroAsync(PendingAllocation allocation, long offset, long length)
    {
        if (!allocation.ReadsAsZero)
        {
            return false;
        }

        long end = Math.Min(offset + length, _node.Size);
        while (offset < end)
        {
            // What only the host's file system could tell is not asked: that would cost each small write several system calls.
            BlockStatus status = await _node.StatusAsync(offset, end - offset, MapPurpose.Transfer);
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
        int inside = (int)Math.Clamp(_node.Size - offset, 0, buffer.Length);
        buffer.Span[inside..].Clear();
        if (inside > 0)
        {
            await _node.ReadAsync(offset, buffer[..inside]);
        }
    }
}
