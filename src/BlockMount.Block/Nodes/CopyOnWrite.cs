using BlockMount.Base.Buffers;
using BlockMount.Formats;

namespace BlockMount.Block.Nodes;

/// <summary>Fills newly allocated places of an image: what the guest writes, and around it what it saw there before. Any thread, concurrently.</summary>
internal sealed class CopyOnWrite
{
    // Head and tail of an allocation are assembled with the data into one write when all of it fits in here.
    private const int AssembleBytesMax = 256 << 10;

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
