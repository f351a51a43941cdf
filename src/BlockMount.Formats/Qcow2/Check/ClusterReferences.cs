using System.Diagnostics;

namespace BlockMount.Formats.Qcow2.Check;

/// <summary>What a host cluster is used for. A cluster serves one use only, whatever the number of references.</summary>
internal enum ClusterUse : byte
{
    None,

    /// <summary>Header, tables other than L2, refcount blocks, snapshot table, bitmaps, encryption header.</summary>
    Structure,

    /// <summary>An L2 table; snapshots share it with the active L1 table.</summary>
    L2Table,

    /// <summary>Guest data; snapshots share it with the active state.</summary>
    Data,

    /// <summary>Parts of compressed clusters; several share a host cluster.</summary>
    Compressed,
}

/// <summary>
/// Counts references to the host clusters of one window, so that memory stays bounded whatever the size of the file. The walk runs once for each
/// window and says everything again. Single-threaded.
/// </summary>
internal sealed class ClusterReferences
{
    // 5 bytes for each cluster: 20 MiB at most.
    private const long WindowClustersMax = 4 << 20;
    private const byte UseMask = 0x7;
    private const byte OwnedByActiveState = 0x80;

    private readonly CheckedLayout _layout;
    private readonly CheckReport _report;
    private readonly uint[] _counts;
    private readonly byte[] _uses;

    internal ClusterReferences(CheckedLayout layout, CheckReport report)
    {
        _layout = layout;
        _report = report;
        long clusters = (layout.FileLength + layout.ClusterSize - 1) >> layout.ClusterBits;
        FileClusters = clusters;
        long window = Math.Clamp(clusters, 1, WindowClustersMax);
        _counts = new uint[window];
        _uses = new byte[window];
    }

    /// <summary>Clusters of the file; the last one may be incomplete.</summary>
    internal long FileClusters { get; }

    /// <summary>First cluster of the window.</summary>
    internal long WindowStart { get; private set; }

    /// <summary>Clusters in the window.</summary>
    internal int WindowLength => _counts.Length;

    /// <summary>In the first window the walk reports what is wrong with single entries; later it only counts.</summary>
    internal bool IsFirstWindow => WindowStart == 0;

    /// <summary>References counted for a cluster of the window.</summary>
    internal uint Count(long cluster) => _counts[cluster - WindowStart];

    /// <summary>Goes to the next window; false at the end of the file.</summary>
    internal bool NextWindow()
    {
        if (WindowStart + WindowLength >= FileClusters)
        {
            return false;
        }

        WindowStart += WindowLength;
        Array.Clear(_counts);
        Array.Clear(_uses);
        return true;
    }

    /// <summary>
    /// Counts one reference to every cluster that the range touches.
    /// </summary>
    /// <param name="active">The reference belongs to the active state; there a cluster of tables or data has one owner.</param>
    /// <param name="referrer">Host offset of the entry that refers, for messages.</param>
    internal void Add(long offset, long length, ClusterUse use, bool active, long referrer)
    {
        Debug.Assert(use != ClusterUse.None);
        if (length <= 0)
        {
            return;
        }

        if (offset < 0 || length > long.MaxValue - offset || offset + length - _layout.FileLength >= _layout.ClusterSize)
        {
            Report(CheckFindingKind.OutsideFile, referrer, $"the entry at {referrer} refers to {use} at {offset} + {length}, past the end of the file at {_layout.FileLength}");
            return;
        }

        long last = (offset + length - 1) >> _layout.ClusterBits;
        for (long cluster = Math.Max(offset >> _layout.ClusterBits, WindowStart); cluster <= last && cluster < WindowStart + WindowLength; cluster++)
        {
            AddCluster(cluster, use, active, referrer);
        }
    }

    /// <summary>Reports once, however many windows there are.</summary>
    internal void Report(CheckFindingKind kind, long hostOffset, string description)
    {
        if (IsFirstWindow)
        {
            _report.Add(kind, hostOffset, description);
        }
    }

    private void AddCluster(long cluster, ClusterUse use, bool active, long referrer)
    {
        long index = cluster - WindowStart;
        if (index >= _counts.Length)
        {
            return;
        }

        _counts[index]++;
        byte before = _uses[index];
        ClusterUse usedFor = (ClusterUse)(before & UseMask);
        bool exclusive = active && use != ClusterUse.Compressed;
        bool conflict = usedFor != ClusterUse.None && usedFor != use;
        conflict |= use == ClusterUse.Structure && usedFor != ClusterUse.None;
        conflict |= exclusive && (before & OwnedByActiveState) != 0;
        if (conflict)
        {
            long offset = cluster << _layout.ClusterBits;
            _report.Add(CheckFindingKind.Overlap, offset, $"the cluster at {offset} is used for {usedFor} and again for {use} by the entry at {referrer}");
        }

        _uses[index] = (byte)((before & OwnedByActiveState) | (exclusive ? OwnedByActiveState : 0) | (byte)use);
    }
}
