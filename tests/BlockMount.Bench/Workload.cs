namespace BlockMount.Bench;

/// <summary>One row of the comparison.</summary>
/// <param name="Name">For the table.</param>
/// <param name="Nbd">Over NBD against qemu-nbd; otherwise through the mount against qemu-storage-daemon.</param>
/// <param name="Job">The load.</param>
/// <param name="Floor">Ratio to QEMU that PERFORMANCE.md asks for.</param>
internal sealed record Workload(string Name, bool Nbd, FioJob Job, double Floor)
{
    /// <summary>What is compared.</summary>
    public Metric Metric { get; init; } = Metric.Iops;

    /// <summary>Each run gets a fresh, empty overlay on the full image.</summary>
    public bool FreshOverlay { get; init; }

    /// <summary>A smaller figure is better: <see cref="Floor"/> is then the largest ratio allowed.</summary>
    public bool LessIsBetter => Metric is Metric.P99 or Metric.CpuPerRequest;

    /// <summary>The column "foundation" of PERFORMANCE.md.</summary>
    public static IReadOnlyList<Workload> All { get; } =
    [
        new("FUSE 4k randread QD1", false, new("randread", "4k", 1), 2.5),
        new("FUSE 4k randread QD1, p99", false, new("randread", "4k", 1), 0.7) { Metric = Metric.P99 },
        new("FUSE 4k randread QD32", false, new("randread", "4k", 32), 2.5),
        new("FUSE 4k randread QD32, CPU per request", false, new("randread", "4k", 32), 0.7) { Metric = Metric.CpuPerRequest },
        new("FUSE 4k randread QD32, 2 jobs", false, new("randread", "4k", 32, Jobs: 2), 2.5),
        new("FUSE 4k randwrite in place QD1", false, new("randwrite", "4k", 1), 2.5),
        new("FUSE 4k randwrite in place QD32", false, new("randwrite", "4k", 32), 2.5),
        new("FUSE 1M seq read", false, new("read", "1M", 1), 2.5) { Metric = Metric.Bandwidth },
        new("FUSE 1M seq write", false, new("write", "1M", 1), 1.0) { Metric = Metric.Bandwidth },
        new("FUSE 64k seq write, allocating", false, new("write", "64k", 4, WholeBytes: 512L << 20), 1.2) { Metric = Metric.Bandwidth, FreshOverlay = true },
        new("FUSE 4k randwrite, allocating", false, new("randwrite", "4k", 16, WholeBytes: 64L << 20), 1.2) { FreshOverlay = true },
        new("NBD 4k randread QD1", true, new("randread", "4k", 1), 1.5),
        new("NBD 4k randread QD32", true, new("randread", "4k", 32), 2.5),
        new("NBD 4k randread QD32, CPU per request", true, new("randread", "4k", 32), 0.7) { Metric = Metric.CpuPerRequest },
        new("NBD 4k randread QD32, 2 connections", true, new("randread", "4k", 32, Jobs: 2), 2.5),
        new("NBD 4k randwrite QD32", true, new("randwrite", "4k", 32), 2.5),
        new("NBD 1M seq read", true, new("read", "1M", 1), 1.2) { Metric = Metric.Bandwidth },
    ];
}

/// <summary>A figure of a run.</summary>
internal enum Metric
{
    Iops,
    Bandwidth,
    P99,
    CpuPerRequest,
}
