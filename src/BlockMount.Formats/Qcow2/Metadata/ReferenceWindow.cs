using BlockMount.Base;

namespace BlockMount.Formats.Qcow2.Metadata;

/// <summary>
/// Adds up changes of refcounts for one window of host clusters, so that memory stays bounded whatever the size of the image; what concerns
/// clusters outside is not kept. Single-threaded.
/// </summary>
internal sealed class ReferenceWindow : IReferenceSink
{
    /// <summary>4 bytes each: 16 MiB at most. With clusters of 64 KiB one window covers 256 GiB.</summary>
    internal const int ClustersMax = 4 << 20;

    private readonly int[] _deltas;

    /// <param name="clusters">Length, a multiple of 64 so that windows end at whole bytes of every width of refcounts.</param>
    internal ReferenceWindow(int clusters)
    {
        _deltas = new int[clusters];
    }

    /// <summary>First cluster of the window.</summary>
    internal HostCluster Start { get; private set; }

    /// <summary>Clusters in the window.</summary>
    internal int Length => _deltas.Length;

    /// <summary>True if any cluster of the window was named since <see cref="MoveTo"/>.</summary>
    internal bool IsTouched { get; private set; }

    /// <summary>The highest cluster that was named at all, inside the window or not; -1 before the first.</summary>
    internal long Highest { get; private set; } = -1;

    /// <summary>A window length for a file with that many clusters.</summary>
    internal static int LengthFor(long clusters, int max) => (int)Math.Min(Alignment.Up(Math.Max(clusters, 1), 64), Math.Max(max & ~63, 64));

    /// <summary>Starts anew at <paramref name="start"/>.</summary>
    internal void MoveTo(HostCluster start)
    {
        Start = start;
        IsTouched = false;
        Array.Clear(_deltas);
    }

    /// <summary>True if the window has the cluster.</summary>
    internal bool Covers(HostCluster cluster) => (ulong)(cluster - Start) < (ulong)_deltas.Length;

    /// <summary>The sum for a cluster of the window.</summary>
    internal int this[HostCluster cluster]
    {
        get => _deltas[cluster - Start];
        set => _deltas[cluster - Start] = value;
    }

    /// <inheritdoc/>
    public void Add(HostCluster cluster, int delta)
    {
        long index = cluster - Start;
        Highest = Math.Max(Highest, cluster.Index);
        if ((ulong)index >= (ulong)_deltas.Length)
        {
            return;
        }

        long sum = (long)_deltas[index] + delta;
        if (sum is > int.MaxValue or < int.MinValue)
        {
            throw new BlockIOException(
                Errno.EIO, $"counting the references to cluster {cluster.Index}, which has more than {int.MaxValue}", "The image is damaged: run 'blockmount check' on it");
        }

        _deltas[index] = (int)sum;
        IsTouched = true;
    }
}
