namespace BlockMount.Formats.Qcow2.Check;

/// <summary>What is wrong about a cluster or an entry.</summary>
public enum CheckFindingKind
{
    /// <summary>More references than the stored refcount: the cluster may be handed out again while it is in use. Corruption.</summary>
    RefcountTooLow,

    /// <summary>Fewer references than the stored refcount: space that nobody can reach. A leak, harmless to the content.</summary>
    Leak,

    /// <summary>An offset in a table is not a multiple of the cluster size. Corruption.</summary>
    Misaligned,

    /// <summary>A reference reaches past the end of the file by a cluster or more. Corruption.</summary>
    OutsideFile,

    /// <summary>The COPIED flag disagrees with the refcount. Corruption.</summary>
    CopiedFlag,

    /// <summary>Bits that must be zero are set, or bits that exclude each other. Corruption.</summary>
    ReservedBits,

    /// <summary>Two owners claim a cluster that can have only one. Corruption.</summary>
    Overlap,

    /// <summary>A structure cannot be read as what it should be (snapshot table, bitmap directory). Corruption.</summary>
    Unreadable,
}

/// <summary>One thing that is wrong.</summary>
/// <param name="HostOffset">The cluster, or the entry that is wrong, as a host offset in bytes.</param>
/// <param name="Description">With the values, for people.</param>
public sealed record CheckFinding(CheckFindingKind Kind, long HostOffset, string Description);

/// <summary>The result of a <see cref="ConsistencyCheck"/>. Counts are complete; the list of findings is cut off.</summary>
public sealed class CheckReport
{
    /// <summary>Findings kept at most; further ones are only counted.</summary>
    public const int FindingsMax = 200;

    private readonly List<CheckFinding> _findings = [];

    /// <summary>The first findings, in the order of discovery.</summary>
    public IReadOnlyList<CheckFinding> Findings => _findings;

    /// <summary>Findings that endanger the content.</summary>
    public long Corruptions { get; private set; }

    /// <summary>Host clusters that are allocated and not used.</summary>
    public long Leaks { get; private set; }

    /// <summary>Clusters of the guest disk.</summary>
    public long TotalClusters { get; internal set; }

    /// <summary>Guest clusters with a host cluster, compressed ones included.</summary>
    public long AllocatedClusters { get; internal set; }

    /// <summary>Guest clusters that are stored compressed.</summary>
    public long CompressedClusters { get; internal set; }

    /// <summary>End of the last host cluster in use, in bytes.</summary>
    public long ImageEndOffset { get; internal set; }

    /// <summary>No corruption and no leak.</summary>
    public bool IsClean => Corruptions == 0 && Leaks == 0;

    internal void Add(CheckFindingKind kind, long hostOffset, string description)
    {
        if (kind == CheckFindingKind.Leak)
        {
            Leaks++;
        }
        else
        {
            Corruptions++;
        }

        if (_findings.Count < FindingsMax)
        {
            _findings.Add(new CheckFinding(kind, hostOffset, description));
        }
    }

    /// <summary>The counts, then one line for each finding kept.</summary>
    public override string ToString()
    {
        string head = $"{Corruptions} corruptions, {Leaks} leaks";
        return _findings.Count == 0
            ? head
            : $"{head}\n  {string.Join("\n  ", _findings.Select(finding => $"{finding.Kind}: {finding.Description}"))}";
    }
}
