namespace BlockMount.Formats.Qcow2.Check;

/// <summary>How a check is done. Immutable.</summary>
public sealed record CheckOptions
{
    /// <summary>Called now and then with the part of the work that is done, from 0 to 1; null for nobody.</summary>
    public Action<double>? Progress { get; init; }

    /// <summary>Host clusters that are counted at the same time, 3 bytes each; larger files are walked several times.</summary>
    public long WindowClusters { get; init; } = ClusterReferences.WindowClustersMax;

    /// <summary>Where the large arrays come from; null to make new ones.</summary>
    internal CheckMemory? Memory { get; init; }
}
