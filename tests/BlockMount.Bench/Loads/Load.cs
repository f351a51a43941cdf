namespace BlockMount.Bench.Loads;

/// <summary>How the load reaches the disk.</summary>
internal enum Access
{
    /// <summary>Through the file that is served (FUSE), libaio and direct I/O.</summary>
    Fuse,

    /// <summary>Through fio's nbd engine on a Unix socket.</summary>
    Nbd,
}

/// <summary>What kind of image lies below.</summary>
internal enum DiskShape
{
    /// <summary>1 GiB qcow2, every cluster allocated; contenders without qcow2 get the same bytes as a raw file.</summary>
    Full,

    /// <summary>The raw file with those bytes, served read-only.</summary>
    RawReadOnly,

    /// <summary>An empty overlay on the full image, fresh for each run; contenders without qcow2 get an empty raw file.</summary>
    EmptyOverlay,

    /// <summary>Overlays with a little data each on the full image, <see cref="Disk.Depth"/> images in all.</summary>
    Chain,
}

/// <summary>The disk under load.</summary>
/// <param name="Depth">Images from top to bottom; for <see cref="DiskShape.Chain"/>.</param>
internal readonly record struct Disk(DiskShape Shape, int Depth = 1)
{
    public static readonly Disk Full = new(DiskShape.Full);
    public static readonly Disk RawReadOnly = new(DiskShape.RawReadOnly);
    public static readonly Disk EmptyOverlay = new(DiskShape.EmptyOverlay);

    /// <summary>A chain; one image alone is the full image itself, so that its runs count for both.</summary>
    public static Disk Chain(int depth) => depth == 1 ? Full : new(DiskShape.Chain, depth);
}

/// <summary>One fio job: what is asked of a disk.</summary>
/// <param name="Mode">fio's rw: randread, randwrite, read, write.</param>
/// <param name="BlockSize">As fio writes it.</param>
/// <param name="Depth">Requests in flight per job.</param>
/// <param name="Jobs">Parallel jobs; for NBD connections.</param>
/// <param name="WholeBytes">Write exactly this much instead of for a time; 0 for a time.</param>
internal sealed record FioJob(string Mode, string BlockSize, int Depth, int Jobs = 1, long WholeBytes = 0)
{
    /// <summary>Reads; otherwise writes.</summary>
    public bool Reads => Mode.Contains("read", StringComparison.Ordinal);
}

/// <summary>A load on a disk. Equal loads are measured once, however many rows of the tables ask for them.</summary>
internal sealed record Load(Access Access, FioJob Job, Disk Disk)
{
    /// <summary>Another program computes on each processor meanwhile.</summary>
    public bool Busy { get; init; }

    /// <summary>As in the tables: "FUSE 4k randread QD32, 2 jobs".</summary>
    public string Name
    {
        get
        {
            string depth = Job is { WholeBytes: 0, BlockSize: "4k" } ? $" QD{Job.Depth}" : "";
            string jobs = Job.Jobs == 1 ? "" : Access == Access.Nbd ? $", {Job.Jobs} connections" : $", {Job.Jobs} jobs";
            return $"{(Access == Access.Nbd ? "NBD" : "FUSE")} {Job.BlockSize} {What}{depth}{jobs}{Where}{(Busy ? ", every processor busy" : "")}";
        }
    }

    private string What => Job.Mode switch
    {
        "read" => "seq read",
        "write" => "seq write",
        "randwrite" when Disk.Shape == DiskShape.Full => "randwrite in place",
        _ => Job.Mode,
    };

    private string Where => Disk.Shape switch
    {
        DiskShape.EmptyOverlay => ", allocating",
        DiskShape.RawReadOnly => ", raw image, read-only",
        DiskShape.Chain => $", chain of {Disk.Depth}",
        _ => "",
    };
}
