namespace BlockMount.Bench.Loads;

/// <summary>What is measured, with the floors and goals of the project: the and PERFORMANCE's tables as data.</summary>
internal static class WorkloadTable
{
    /// <summary>Images from top to bottom, for throughput by depth of the chain.</summary>
    public static readonly int[] ChainDepths = [1, 8, 64, 256];

    /// <summary>Requests in flight, for cost by queue depth.</summary>
    public static readonly int[] QueueDepths = [1, 2, 4, 8, 16, 32, 64];

    /// <summary>The load that most rows are about.</summary>
    public static readonly Load RandomRead = RandomReadAt(1);

    public static readonly Load NbdRandomRead = Nbd(new("randread", "4k", 1));

    private static readonly Load s_fuseRead32 = RandomReadAt(32);
    private static readonly Load s_fuseRead32By2 = Fuse(new("randread", "4k", 32, Jobs: 2));
    private static readonly Load s_fuseWrite = Fuse(new("randwrite", "4k", 1));
    private static readonly Load s_fuseWrite32 = Fuse(new("randwrite", "4k", 32));
    private static readonly Load s_fuseReadLarge = Fuse(new("read", "1M", 1));
    private static readonly Load s_fuseWriteLarge = Fuse(new("write", "1M", 1));
    private static readonly Load s_allocateSequential = new(Access.Fuse, new("write", "64k", 4, WholeBytes: 512L << 20), Disk.EmptyOverlay);
    private static readonly Load s_allocateRandom = new(Access.Fuse, new("randwrite", "4k", 16, WholeBytes: 64L << 20), Disk.EmptyOverlay);
    private static readonly Load s_raw = new(Access.Fuse, new("randread", "4k", 1), Disk.RawReadOnly);
    private static readonly Load s_raw32 = new(Access.Fuse, new("randread", "4k", 32), Disk.RawReadOnly);
    private static readonly Load s_nbdRead32 = Nbd(new("randread", "4k", 32));
    private static readonly Load s_nbdRead32By2 = Nbd(new("randread", "4k", 32, Jobs: 2));
    private static readonly Load s_nbdWrite32 = Nbd(new("randwrite", "4k", 32));
    private static readonly Load s_nbdReadLarge = Nbd(new("read", "1M", 1));

    /// <summary>The rows, in the order of the document.</summary>
    public static IReadOnlyList<Workload> Rows { get; } =
    [
        new(RandomRead, Metric.Iops, 2.5, 6),
        new(RandomRead, Metric.P99, 0.7, 0.2),
        new(RandomRead, Metric.CpuPerRequest, 0.7, 0.4),
        new(s_fuseRead32, Metric.Iops, 2.5, 4),
        new(s_fuseRead32, Metric.CpuPerRequest, 0.7, 0.4),
        new(s_fuseRead32By2, Metric.Iops, 2.5, 4.5),
        new(s_fuseWrite, Metric.Iops, 2.5, 6),
        new(s_fuseWrite32, Metric.Iops, 2.5, 3.5),
        new(s_fuseReadLarge, Metric.Bandwidth, 2.5, 3.7),
        new(s_fuseWriteLarge, Metric.Bandwidth, 1.0, 1.4),
        new(s_allocateSequential, Metric.Bandwidth, 1.2, 2.5),
        new(s_allocateRandom, Metric.Iops, 1.2, 2.5),
        // No goal names it. A server that is fast only while nobody else computes would not show otherwise.
        new(RandomRead with { Busy = true }, Metric.Iops, null, null),
        new(s_raw, Metric.Iops, null, 0.9) { Against = Contender.NativeFile },
        new(s_raw32, Metric.Iops, null, 0.9) { Against = Contender.NativeFile },
        .. ChainDepths.Skip(1).Select(depth => new Workload(Chain(depth), Metric.TimePerRequest, null, 1.1) { OwnBaseline = RandomRead }),
        new(NbdRandomRead, Metric.Iops, 1.5, 3),
        new(NbdRandomRead, Metric.Iops, null, 1.5) { Against = Contender.Nbdkit },
        new(NbdRandomRead, Metric.CpuPerRequest, 0.7, 0.4),
        new(s_nbdRead32, Metric.Iops, 2.5, 4.5),
        new(s_nbdRead32, Metric.Iops, null, 1.5) { Against = Contender.Nbdkit },
        new(s_nbdRead32, Metric.CpuPerRequest, 0.7, 0.4),
        new(s_nbdRead32By2, Metric.Iops, 2.5, 5),
        new(s_nbdRead32By2, Metric.Iops, null, 1.5) { Against = Contender.Nbdkit },
        new(s_nbdWrite32, Metric.Iops, 2.5, 4.5),
        new(s_nbdReadLarge, Metric.Bandwidth, 1.2, 2.5),
    ];

    /// <summary>Every load, in the order of measuring; a load in two groups is measured in the first.</summary>
    public static IReadOnlyList<LoadGroup> Groups { get; } =
    [
        // Depth 1 is the load of the first rows, and has to be interleaved with the others of its group.
        new([.. ChainDepths.Select(Chain)]),
        .. Rows.Select(row => new LoadGroup([row.Load])),
        .. QueueDepths.Select(depth => new LoadGroup([RandomReadAt(depth)], Peers: false, Supplementary: true)),
    ];

    /// <summary>The rows of a quick look.</summary>
    public static IReadOnlyList<Workload> QuickRows { get; } =
    [
        .. Rows.Where(row => row.Load == RandomRead || row.Load == s_fuseRead32 || row.Load == s_fuseWrite32 || row.Load == s_fuseReadLarge
            || row.Load == s_allocateSequential || row.Load == s_nbdRead32 || row is { OwnBaseline: not null, Load.Disk.Depth: 64 }),
    ];

    /// <summary>Random 4 KiB reads at queue depth 1 on a chain.</summary>
    public static Load Chain(int depth) => new(Access.Fuse, new("randread", "4k", 1), Disk.Chain(depth));

    /// <summary>Random 4 KiB reads through the mount.</summary>
    public static Load RandomReadAt(int queueDepth) => Fuse(new("randread", "4k", queueDepth));

    private static Load Fuse(FioJob job) => new(Access.Fuse, job, Disk.Full);

    private static Load Nbd(FioJob job) => new(Access.Nbd, job, Disk.Full);
}
