using BlockMount.Base;

namespace BlockMount.Block.Nodes;

/// <summary>
/// A guest range split into the whole clusters inside it and the rest before and after. The last cluster of a disk counts as whole
/// when the range reaches the end of the disk.
/// </summary>
/// <param name="HeadLength">Bytes before the first whole cluster.</param>
/// <param name="Offset">Start of the whole clusters; the end of the head when there are none.</param>
/// <param name="Length">Bytes of whole clusters.</param>
/// <param name="TailLength">Bytes after them.</param>
internal readonly record struct WholeClusters(long HeadLength, long Offset, long Length, long TailLength)
{
    internal static WholeClusters Of(long offset, long length, int clusterSize, long diskSize)
    {
        long end = offset + length;
        long first = Alignment.Up(offset, clusterSize);
        long last = end == diskSize ? end : Alignment.Down(end, clusterSize);
        return first >= last
            ? new WholeClusters(length, end, 0, 0)
            : new WholeClusters(first - offset, first, last - first, end - last);
    }
}
