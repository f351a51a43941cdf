using System.Diagnostics;
using System.Numerics;
using System.Runtime.CompilerServices;

namespace BlockMount.Formats.Qcow2.Check;

/// <summary>What a host cluster is used for, as a set: more than one member means that owners are in each other's way.</summary>
[Flags]
internal enum ClusterUses : byte
{
    None = 0,

    /// <summary>Header, L1 tables, snapshot table, encryption header: written in place, and cannot be given up.</summary>
    Structure = 1 << 0,

    /// <summary>Refcount table and blocks: written in place; can be made anew.</summary>
    Refcounts = 1 << 1,

    /// <summary>Bitmap directory, tables and data.</summary>
    Bitmaps = 1 << 2,

    /// <summary>An L2 table; snapshots share it with the active L1 table.</summary>
    L2Table = 1 << 3,

    /// <summary>Guest data; snapshots share it with the active state.</summary>
    Data = 1 << 4,

    /// <summary>Parts of compressed clusters; several share a host cluster.</summary>
    Compressed = 1 << 5,

    /// <summary>An entry of the active tables refers to it as table or as data.</summary>
    OwnedByActiveState = 1 << 6,

    /// <summary>Two owners of a kind that allows one: two structures, or two entries of the active tables.</summary>
    Doubled = 1 << 7,

    /// <summary>What is written in place, whatever the refcount says.</summary>
    InPlace = Structure | Refcounts | Bitmaps,

    /// <summary>The kinds of owners.</summary>
    Kinds = InPlace | L2Table | Data | Compressed,
}

/// <summary>
/// Counts references to the host clusters of one window, so that memory stays bounded whatever the size of the file: 3 bytes for each cluster, and
/// one window for files of up to <see cref="WindowClustersMax"/> clusters (2 TiB with 64 KiB clusters). The walk runs once for each window in which there
/// is something, and says everything again. Single-threaded.
/// </summary>
internal sealed class ClusterReferences : IFindingList
{
    internal const long WindowClustersMax = 32 << 20;
    private const int OverflowsMax = 1 << 16;
    private const int LongRangeClusters = 32;

    private readonly CheckedLayout _layout;
    private readonly CheckReport _report;
    private readonly ulong _refcountMax;
    private readonly WindowCounts _counts;

    // Counts from ushort.MaxValue up; null but for images with tens of thousands of snapshots.
    private Dictionary<long, ulong>? _large;

    // References that a refcount cannot say, by cluster; cut off at OverflowsMax, null for none.
    private Dictionary<long, int>? _overflows;

    // Numbers of the windows behind the first to which something refers, complete after the first walk; null as long as there is none.
    private SortedSet<long>? _laterWindows;
    private long _lastLaterWindow;

    /// <param name="windowMax">Clusters that are counted at the same time.</param>
    /// <param name="memory">Where the arrays come from; null to make new ones.</param>
    internal ClusterReferences(CheckedLayout layout, CheckReport report, long windowMax = WindowClustersMax, CheckMemory? memory = null)
    {
        _layout = layout;
        _report = report;
        _refcountMax = layout.RefcountMax;
        FileClusters = layout.FileClusters;
        // One more: a reference may reach into a cluster of which the file has nothing.
        long window = Math.Clamp(FileClusters + 1, 1, windowMax);
        _counts = memory?.TakeCounts(window) ?? new WindowCounts(window);
    }

    /// <summary>Clusters of the file, those included into which a reference reaches; the last one may be incomplete.</summary>
    internal long FileClusters { get; private set; }

    /// <summary>First cluster of the window.</summary>
    internal long WindowStart { get; private set; }

    /// <summary>First cluster behind the window.</summary>
    internal long WindowEnd => WindowStart + _counts.Length;

    /// <summary>In the first window the walk reports what is wrong with single entries; later it only counts.</summary>
    internal bool IsFirstWindow => WindowStart == 0;

    /// <summary>Some cluster has owners that exclude each other.</summary>
    internal bool HasConflicts { get; private set; }

    /// <summary>References beyond what the refcounts can say, in all windows so far.</summary>
    internal long Overflows { get; private set; }

    /// <summary>True if the cluster is in the window.</summary>
    internal bool Holds(long cluster) => cluster >= WindowStart && cluster < WindowEnd;

    /// <summary>References counted for a cluster of the window; at most what a refcount of the image can say.</summary>
    internal ulong Count(long cluster)
    {
        ushort count = _counts.Count(cluster - WindowStart);
        return count == ushort.MaxValue && _large is not null && _large.TryGetValue(cluster, out ulong large) ? large : count;
    }

    /// <summary>Who uses a cluster of the window.</summary>
    internal ClusterUses Uses(long cluster) => _counts.Uses(cluster - WindowStart);

    /// <summary>Forgets that the owners of a cluster may be in each other's way.</summary>
    internal void Absolve(long cluster) => _counts.SetUses(cluster - WindowStart, ClusterUses.None);

    /// <summary>True if the cluster has owners that do not go together, or more than one where one is allowed.</summary>
    internal static bool IsContested(ClusterUses uses) =>
        (uses & ClusterUses.Doubled) != 0 || BitOperations.PopCount((uint)(uses & ClusterUses.Kinds)) > 1;

    /// <summary>True if the cluster has owners of which one can destroy the other's content although the refcount is right.</summary>
    internal static bool IsHiddenConflict(ClusterUses uses) =>
        (uses & ClusterUses.InPlace) != 0 && IsContested(uses);

    /// <summary>Takes one of the references that are too many for the cluster's refcount away; false if there is none.</summary>
    internal bool TakeOverflow(long cluster)
    {
        if (_overflows is null || !_overflows.TryGetValue(cluster, out int excess) || excess == 0)
        {
            return false;
        }

        _overflows[cluster] = excess - 1;
        return true;
    }

    /// <summary>The first cluster from <paramref name="cluster"/> on, inside the window, that has references; <paramref name="end"/> if there is none before it.</summary>
    internal long NextReferenced(long cluster, long end) => WindowStart + _counts.NextCounted(cluster - WindowStart, end - WindowStart);

    /// <summary>A cluster before which nothing from <paramref name="cluster"/> on has references; <paramref name="cluster"/> itself if that takes counting.</summary>
    internal long UntouchedEnd(long cluster, long end) => WindowStart + _counts.UntouchedEnd(cluster - WindowStart, end - WindowStart);

    /// <summary>
    /// Goes to the next window in which there is something to compare: one that the first walk saw references to, or one with stored refcounts.
    /// </summary>
    /// <param name="nextStored">The first cluster from <see cref="WindowEnd"/> on that has a refcount block.</param>
    /// <returns>False if there is none in the file.</returns>
    internal bool NextWindow(long nextStored)
    {
        long current = WindowStart / _counts.Length;
        long next = nextStored / _counts.Length;
        if (_laterWindows?.GetViewBetween(current + 1, long.MaxValue) is { Count: > 0 } later)
        {
            next = Math.Min(next, later.Min);
        }

        if (next > (FileClusters - 1) / _counts.Length)
        {
            return false;
        }

        WindowStart = next * _counts.Length;
        _counts.Clear();
        _large?.Clear();
        return true;
    }

    /// <summary>
    /// Counts one reference to every cluster that the range touches; a range outside the file is reported and not counted.
    /// </summary>
    /// <param name="use">What for; <see cref="ClusterUses.None"/> for a reference that counts and that nobody believes, because it is not aligned.</param>
    /// <param name="active">The reference belongs to the active state; there a cluster of tables or data has one owner.</param>
    /// <param name="referrer">Host offset of the entry that refers, for messages.</param>
    /// <param name="times">How many such references there are, at least 1.</param>
    /// <returns>False if the range lies outside the file.</returns>
    internal bool Add(long offset, long length, ClusterUses use, bool active, long referrer, long times = 1)
    {
        Debug.Assert(times > 0);
        Debug.Assert(use == ClusterUses.None || BitOperations.IsPow2((int)use));
        if (length <= 0)
        {
            return true;
        }

        if (_layout.IsOutside(offset, length))
        {
            Report(CheckFindingKind.OutsideFile, referrer, $"the entry at {referrer} refers to {use} at {offset} + {length}, past the end of the file at {_layout.FileLength}", times: times);
            return false;
        }

        long last = (offset + length - 1) >> _layout.ClusterBits;
        FileClusters = Math.Max(FileClusters, last + 1);
        if (last >= WindowEnd && IsFirstWindow)
        {
            NoteLaterWindows(offset >> _layout.ClusterBits, last);
        }

        AddClusters(Math.Max(offset >> _layout.ClusterBits, WindowStart), Math.Min(last, WindowEnd - 1), use, active, (ulong)times);
        return true;
    }

    /// <inheritdoc/>
    public bool IsListing => IsFirstWindow && _report.IsListing;

    /// <summary>Reports once, however many windows there are.</summary>
    internal void Report(
        CheckFindingKind kind, long hostOffset, [InterpolatedStringHandlerArgument("")] ref FindingText description, bool knownToQemu = true, long times = 1) =>
        Report(kind, hostOffset, description.TakeText(), knownToQemu, times);

    /// <inheritdoc cref="Report(CheckFindingKind, long, ref FindingText, bool, long)"/>
    internal void Report(CheckFindingKind kind, long hostOffset, string description, bool knownToQemu = true, long times = 1)
    {
        if (IsFirstWindow)
        {
            _report.Add(kind, hostOffset, description, knownToQemu, times);
        }
    }

    private void NoteLaterWindows(long firstCluster, long lastCluster)
    {
        long last = lastCluster / _counts.Length;
        for (long window = Math.Max(1, firstCluster / _counts.Length); window <= last; window++)
        {
            if (window != _lastLaterWindow)
            {
                _ = (_laterWindows ??= []).Add(window);
                _lastLaterWindow = window;
            }
        }
    }

    private void AddClusters(long first, long last, ClusterUses use, bool active, ulong times)
    {
        // Long tables, which nearly always lie where nothing else is.
        if (times == 1 && last - first >= LongRangeClusters && (use & ClusterUses.InPlace) != 0 && _counts.TryFill(first - WindowStart, last - first + 1, use))
        {
            return;
        }

        for (long cluster = first; cluster <= last; cluster++)
        {
            AddCluster(cluster, use, active, times);
        }
    }

    private void AddCluster(long cluster, ClusterUses use, bool active, ulong times)
    {
        long index = cluster - WindowStart;
        long excess = Increase(cluster, index, times);
        if (excess > 0)
        {
            Overflows += excess;
            _overflows ??= [];
            if (_overflows.Count < OverflowsMax || _overflows.ContainsKey(cluster))
            {
                _overflows[cluster] = (int)Math.Min(_overflows.GetValueOrDefault(cluster) + excess, int.MaxValue);
            }

            _report.Add(CheckFindingKind.Overflow, cluster << _layout.ClusterBits, $"the cluster at {cluster << _layout.ClusterBits} has more than {_refcountMax} references", times: excess);
        }

        ClusterUses before = _counts.Uses(index);
        ClusterUses after = before | use;
        bool again = times > 1;
        if (active && (use & (ClusterUses.L2Table | ClusterUses.Data)) != 0)
        {
            after |= ClusterUses.OwnedByActiveState | (again || (before & ClusterUses.OwnedByActiveState) != 0 ? ClusterUses.Doubled : 0);
        }
        else if ((use & (again ? use : before) & ClusterUses.InPlace) != 0)
        {
            after |= ClusterUses.Doubled;
        }

        HasConflicts |= IsContested(after);
        _counts.SetUses(index, after);
    }

    // Returns those of the references that are too many.
    private long Increase(long cluster, long index, ulong times)
    {
        ref ushort count = ref _counts.Touch(index);
        if (times == 1 && count < ushort.MaxValue && count < _refcountMax)
        {
            count++;
            return 0;
        }

        ulong before = Count(cluster);
        ulong added = Math.Min(times, _refcountMax - before);
        ulong after = before + added;
        count = (ushort)Math.Min(after, ushort.MaxValue);
        if (after > ushort.MaxValue)
        {
            (_large ??= [])[cluster] = after;
        }

        return (long)(times - added);
    }
}
