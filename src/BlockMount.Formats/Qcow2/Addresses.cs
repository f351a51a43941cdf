namespace BlockMount.Formats.Qcow2;

/// <summary>Index of a cluster of the guest's disk. Multiply by the cluster size only through <see cref="Geometry"/>.</summary>
public readonly record struct GuestCluster(long Index)
{
    public static GuestCluster operator +(GuestCluster cluster, long count) => new(cluster.Index + count);

    public static long operator -(GuestCluster left, GuestCluster right) => left.Index - right.Index;
}

/// <summary>Index of a cluster of the image file.</summary>
public readonly record struct HostCluster(long Index)
{
    public static HostCluster operator +(HostCluster cluster, long count) => new(cluster.Index + count);

    public static long operator -(HostCluster left, HostCluster right) => left.Index - right.Index;
}

/// <summary>Contiguous clusters of the image file.</summary>
/// <param name="Start">The first.</param>
/// <param name="Count">How many, at least 1.</param>
public readonly record struct HostRun(HostCluster Start, long Count)
{
    /// <summary>The cluster behind the last one.</summary>
    public HostCluster End => Start + Count;
}
