namespace BlockMount.Formats.Qcow2.Check;

/// <summary>
/// The counts of one window, by cluster, and which groups of <see cref="GroupClusters"/> clusters were touched: memory that nothing touched is never
/// committed, cleared or compared, so that a sparse giant costs what refers to it and not its length. Single-threaded.
/// </summary>
internal sealed class WindowCounts
{
    /// <summary>Clusters in a group; 12 KiB of counts and uses.</summary>
    internal const int GroupClusters = 1 << GroupBits;
    private const int GroupBits = 12;

    private readonly ushort[] _counts;
    private readonly ClusterUses[] _uses;
    private readonly bool[] _touched;

    /// <param name="clusters">Clusters of the window, at least 1.</param>
    internal WindowCounts(long clusters)
    {
        _counts = new ushort[clusters];
        _uses = new ClusterUses[clusters];
        _touched = new bool[(clusters + GroupClusters - 1) >> GroupBits];
    }

    /// <summary>Clusters of the window.</summary>
    internal int Length => _counts.Length;

    /// <summary>Count of the cluster at an index of the window, for reading.</summary>
    internal ushort Count(long index) => _counts[index];

    /// <summary>Users of the cluster at an index of the window, for reading.</summary>
    internal ClusterUses Uses(long index) => _uses[index];

    internal void SetUses(long index, ClusterUses uses) => _uses[index] = uses;

    /// <summary>The count, to be changed.</summary>
    internal ref ushort Touch(long index)
    {
        _touched[index >> GroupBits] = true;
        return ref _counts[index];
    }

    /// <summary>Gives every cluster of a range the count 1 and one use, if nothing has touched them before; false if something has.</summary>
    internal bool TryFill(long index, long length, ClusterUses uses)
    {
        Span<ushort> counts = _counts.AsSpan((int)index, (int)length);
        if (counts.IndexOfAnyExcept((ushort)0) >= 0)
        {
            return false;
        }

        counts.Fill(1);
        _uses.AsSpan((int)index, (int)length).Fill(uses);
        _touched.AsSpan((int)(index >> GroupBits), (int)(((index + length - 1) >> GroupBits) - (index >> GroupBits) + 1)).Fill(true);
        return true;
    }

    /// <summary>The end of the group of an index, or <paramref name="end"/>, if nothing touched it before; <paramref name="index"/> itself if something did.</summary>
    internal long UntouchedEnd(long index, long end) =>
        _touched[index >> GroupBits] ? index : Math.Min(end, ((index >> GroupBits) + 1) << GroupBits);

    /// <summary>The first index from <paramref name="index"/> on whose count is not 0; <paramref name="end"/> if there is none before it.</summary>
    internal long NextCounted(long index, long end)
    {
        while (index < end)
        {
            long stop = Math.Min(end, ((index >> GroupBits) + 1) << GroupBits);
            if (_touched[index >> GroupBits])
            {
                int found = _counts.AsSpan((int)index, (int)(stop - index)).IndexOfAnyExcept((ushort)0);
                if (found >= 0)
                {
                    return index + found;
                }
            }

            index = stop;
        }

        return end;
    }

    /// <summary>Zeros everything.</summary>
    internal void Clear()
    {
        for (int group = _touched.AsSpan().IndexOf(true); group >= 0;)
        {
            int start = group << GroupBits;
            int length = Math.Min(GroupClusters, Length - start);
            Array.Clear(_counts, start, length);
            Array.Clear(_uses, start, length);
            _touched[group] = false;
            int next = _touched.AsSpan(group).IndexOf(true);
            group = next < 0 ? -1 : group + next;
        }
    }
}
