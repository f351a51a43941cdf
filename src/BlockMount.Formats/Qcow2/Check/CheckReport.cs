using System.Runtime.CompilerServices;

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

    /// <summary>A cluster has more references than a refcount of the image's width can say. Corruption.</summary>
    Overflow,

    /// <summary>A part of the check could not be done. No verdict on that part.</summary>
    Unchecked,
}

/// <summary>One thing that is wrong.</summary>
/// <param name="HostOffset">The cluster, or the entry that is wrong, as a host offset in bytes.</param>
/// <param name="Description">With the values, for people.</param>
public sealed record CheckFinding(CheckFindingKind Kind, long HostOffset, string Description);

/// <summary>
/// The result of a <see cref="ConsistencyCheck"/>. Counts are complete, and equal to those of qemu-img check; the list of findings is cut off.
/// </summary>
public sealed class CheckReport : IFindingList
{
    /// <summary>Findings kept at most; further ones are only counted.</summary>
    public const int FindingsMax = 200;

    private readonly List<CheckFinding> _findings = [];

    /// <summary>The first findings, in the order of discovery.</summary>
    public IReadOnlyList<CheckFinding> Findings => _findings;

    /// <summary>Findings that endanger the content.</summary>
    public long Corruptions { get; private set; }

    /// <summary>
    /// Those of <see cref="Corruptions"/> that qemu-img check does not count: overlapping structures with refcounts that agree, entries of an
    /// external data file that lead elsewhere, reserved bits that it does not look at.
    /// </summary>
    public long CorruptionsUnknownToQemu { get; private set; }

    /// <summary>Those of <see cref="Corruptions"/> that are wrong COPIED flags.</summary>
    internal long WrongCopiedFlags { get; private set; }

    /// <summary>Those of <see cref="Corruptions"/> that are refcounts below the number of references.</summary>
    internal long RefcountsTooLow { get; private set; }

    /// <summary>
    /// Those of <see cref="Corruptions"/> that are refcounts too low or wrong COPIED flags: what is left when a writer with lazy refcounts ends without
    /// closing the image. The tables themselves are sound.
    /// </summary>
    public long StaleRefcounts => RefcountsTooLow + WrongCopiedFlags;

    /// <summary>Host clusters that are allocated and not used.</summary>
    public long Leaks { get; private set; }

    /// <summary>Parts of the check that could not be done.</summary>
    public long CheckErrors { get; private set; }

    /// <summary>
    /// Tables that were not read, because of how many overlap, or are shared, or are larger than the file can hold, beyond what a check is willing to follow:
    /// L1 tables of snapshots (<see cref="TableOverlaps"/>), L2 tables of an image with a data file, encryption headers. Each is a check error as well. Nobody knows which clusters are theirs.
    /// </summary>
    public long UnreadTables { get; internal set; }

    /// <summary>
    /// References that lead to no place that they could mean, and structures that could not be read: what looks leaked may belong to them.
    /// </summary>
    internal long UnfollowedReferences { get; private set; }

    /// <summary>Corruptions that a repair has removed.</summary>
    public long CorruptionsFixed { get; internal set; }

    /// <summary>Leaks that a repair has removed.</summary>
    public long LeaksFixed { get; internal set; }

    /// <summary>Clusters of the guest disk.</summary>
    public long TotalClusters { get; internal set; }

    /// <summary>Guest clusters with a host cluster, compressed ones included.</summary>
    public long AllocatedClusters { get; internal set; }

    /// <summary>Guest clusters whose host cluster does not follow that of the guest cluster before them in the same L2 table; compressed ones all count.</summary>
    public long FragmentedClusters { get; internal set; }

    /// <summary>Guest clusters that are stored compressed.</summary>
    public long CompressedClusters { get; internal set; }

    /// <summary>End of the last host cluster in use, in bytes.</summary>
    public long ImageEndOffset { get; internal set; }

    /// <summary>Clusters that two entries of the active tables refer to, correctly counted. Legal, and odd: no program makes such images.</summary>
    public long SharedActiveClusters { get; internal set; }

    /// <summary>The refcount structure cannot be mended in place: blocks are missing, unusable, or overlap with something else.</summary>
    public bool RefcountsNeedRebuild { get; internal set; }

    /// <summary>The guest ranges whose content the findings put in doubt.</summary>
    public GuestDamage Damage { get; } = new();

    /// <summary>No corruption, no leak, and everything was checked.</summary>
    public bool IsClean => Corruptions == 0 && Leaks == 0 && CheckErrors == 0;

    /// <summary>The exit code of qemu-img check: 1 could not be checked completely, 2 corruptions, 3 leaks only, 0 clean.</summary>
    public int ExitCode => CheckErrors > 0 ? 1 : Corruptions > 0 ? 2 : Leaks > 0 ? 3 : 0;

    /// <inheritdoc cref="IFindingList.IsListing"/>
    internal bool IsListing => _findings.Count < FindingsMax;

    bool IFindingList.IsListing => IsListing;

    /// <param name="description">Put together only if it is listed.</param>
    /// <param name="knownToQemu">False for corruptions that qemu-img check does not count.</param>
    /// <param name="times">How often it counts; it is listed once.</param>
    internal void Add(
        CheckFindingKind kind, long hostOffset, [InterpolatedStringHandlerArgument("")] ref FindingText description, bool knownToQemu = true, long times = 1) =>
        Add(kind, hostOffset, description.TakeText(), knownToQemu, times);

    /// <inheritdoc cref="Add(CheckFindingKind, long, ref FindingText, bool, long)"/>
    internal void Add(CheckFindingKind kind, long hostOffset, string description, bool knownToQemu = true, long times = 1)
    {
        Count(kind, knownToQemu, times);
        if (IsListing)
        {
            _findings.Add(new CheckFinding(kind, hostOffset, description));
        }
    }

    /// <summary>The counts, then one line for each finding kept.</summary>
    public override string ToString()
    {
        string head = $"{Corruptions} corruptions, {Leaks} leaks, {CheckErrors} check errors";
        return _findings.Count == 0
            ? head
            : $"{head}\n  {string.Join("\n  ", _findings.Select(finding => $"{finding.Kind}: {finding.Description}"))}";
    }

    private void Count(CheckFindingKind kind, bool knownToQemu, long times)
    {
        UnfollowedReferences += kind is CheckFindingKind.Misaligned or CheckFindingKind.OutsideFile or CheckFindingKind.Unreadable or CheckFindingKind.Unchecked ? times : 0;
        switch (kind)
        {
            case CheckFindingKind.Leak:
                Leaks += times;
                break;
            case CheckFindingKind.Unchecked:
                CheckErrors += times;
                break;
            default:
                Corruptions += times;
                WrongCopiedFlags += kind == CheckFindingKind.CopiedFlag ? times : 0;
                RefcountsTooLow += kind == CheckFindingKind.RefcountTooLow ? times : 0;
                CorruptionsUnknownToQemu += knownToQemu ? 0 : times;
                break;
        }
    }
}
