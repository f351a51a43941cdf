using BlockMount.Formats.Qcow2.Check;
using BlockMount.Formats.Qcow2.OnDisk;

namespace BlockMount.Formats.Qcow2.Repair;

/// <summary>
/// Where a new refcount structure goes: behind the end of the file, table first, then only the blocks that are needed. The structure counts itself, so its
/// size depends on itself; the plan is the smallest that covers all.
/// </summary>
internal sealed class RefcountPlan
{
    private readonly CheckedLayout _layout;
    private readonly ClusterReferences _references;
    private readonly long _first;
    private readonly List<long> _blocks;

    private RefcountPlan(CheckedLayout layout, ClusterReferences references, long first, List<long> blocks, int tableClusters)
    {
        _layout = layout;
        _references = references;
        _first = first;
        _blocks = blocks;
        TableClusters = tableClusters;
    }

    /// <summary>Clusters of the table.</summary>
    internal int TableClusters { get; }

    /// <summary>Host offset of the table.</summary>
    internal long TableOffset => _first << _layout.ClusterBits;

    /// <summary>Host offset of the first block; the others follow.</summary>
    internal long BlocksOffset => (_first + TableClusters) << _layout.ClusterBits;

    /// <summary>Numbers of the blocks, ascending.</summary>
    internal IReadOnlyList<long> Blocks => _blocks;

    /// <exception cref="ImageFormatException">The table would be larger than the format allows.</exception>
    internal static RefcountPlan Make(CheckedLayout layout, ClusterReferences references)
    {
        long first = Math.Max(references.FileClusters, layout.FileClusters);
        List<long> used = UsedBlocks(layout, references);
        long own = 1;
        while (true)
        {
            List<long> blocks = [.. used];
            long last = (first + own - 1) / layout.RefcountBlockEntries;
            for (long block = Math.Max(first / layout.RefcountBlockEntries, used.Count == 0 ? 0 : used[^1] + 1); block <= last; block++)
            {
                blocks.Add(block);
            }

            long tableBytes = (blocks[^1] + 1) * 8;
            long tableClusters = (tableBytes + layout.ClusterSize - 1) >> layout.ClusterBits;
            if (tableClusters << layout.ClusterBits > Qcow2Limits.RefcountTableBytesMax)
            {
                throw new ImageFormatException($"a new refcount table would have {tableBytes} bytes, the format allows {Qcow2Limits.RefcountTableBytesMax}");
            }

            long needed = tableClusters + blocks.Count;
            if (needed <= own)
            {
                return new RefcountPlan(layout, references, first, blocks, (int)tableClusters);
            }

            own = needed;
        }
    }

    /// <summary>The refcount that a cluster gets.</summary>
    internal ulong CountOf(long cluster) =>
        cluster >= _first ? (cluster < _first + TableClusters + _blocks.Count ? 1UL : 0) : _references.Holds(cluster) ? _references.Count(cluster) : 0;

    private static List<long> UsedBlocks(CheckedLayout layout, ClusterReferences references)
    {
        List<long> blocks = [];
        long end = references.FileClusters;
        for (long cluster = references.NextReferenced(0, end); cluster < end;)
        {
            long block = cluster / layout.RefcountBlockEntries;
            blocks.Add(block);
            cluster = references.NextReferenced(Math.Min(end, (block + 1) * layout.RefcountBlockEntries), end);
        }

        return blocks;
    }
}
