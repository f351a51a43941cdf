using BlockMount.Base;
using BlockMount.Base.Buffers;
using BlockMount.Formats;

namespace BlockMount.Block.Nodes;

/// <summary>Makes ranges of an image read as zeros: by metadata where its driver can, else by writing. Any thread, concurrently.</summary>
internal sealed class Zeroing
{
    private readonly FormatNode _node;
    private readonly FormatDriver _driver;
    private readonly AlignedBufferPool _buffers = AlignedBufferPool.Shared;

    /// <param name="node">Asked for what reads as zeros already, and written to.</param>
    /// <param name="driver">That node's driver.</param>
    internal Zeroing(FormatNode node, FormatDriver driver)
    {
        _node = node;
        _driver = driver;
    }

    /// <summary>Zeroes the range, byte-exact; it lies inside the disk.</summary>
    internal async ValueTask RunAsync(long offset, long length, ZeroFlags flags)
    {
        WholeClusters units = WholeClusters.Of(offset, length, _driver.ZeroUnit, _node.Size);
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

    // Whole clusters at once, parts of clusters one by one: what a driver zeroes in one call.
    private long ZeroStep(long start, long end)
    {
        long wholeEnd = end == _node.Size ? end : Alignment.Down(end, _driver.ClusterSize);
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
            BlockStatus status = await _node.StatusAsync(offset, length, MapPurpose.Status);
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
                await _node.WriteDataAsync(offset, buffer.Memory[..step]);
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
