using BlockMount.Block.Devices;
using BlockMount.Block.Filters;
using BlockMount.Block.Nodes;
using BlockMount.Formats.Qcow2.OnDisk;

namespace BlockMount.Block.Graph;

/// <summary>What a query tells of one node (FEATURES Q5). Sizes in bytes.</summary>
public sealed record NodeReport
{
    /// <summary>node-name.</summary>
    public required string Name { get; init; }

    /// <summary>drv.</summary>
    public required string Driver { get; init; }

    /// <summary>file: the host file underneath.</summary>
    public required string FileName { get; init; }

    /// <summary>ro.</summary>
    public required bool ReadOnly { get; init; }

    /// <summary>A command has added it by name.</summary>
    public required bool IsMonitorOwned { get; init; }

    /// <summary>Bytes that users of the node see.</summary>
    public required long Size { get; init; }

    /// <summary>Bytes that its host file occupies.</summary>
    public required long AllocatedBytes { get; init; }

    /// <summary>Unit of allocation; 1 where there is none.</summary>
    public required int ClusterSize { get; init; }

    /// <summary>backing_file: the host file of the node that shows through; null without one.</summary>
    public string? BackingFileName { get; init; }

    /// <summary>backing_file_depth.</summary>
    public required int BackingDepth { get; init; }

    /// <summary>cache.direct.</summary>
    public required bool Direct { get; init; }

    /// <summary>cache.no-flush.</summary>
    public required bool NoFlush { get; init; }

    /// <summary>detect_zeroes.</summary>
    public required DetectZeroes DetectZeroes { get; init; }

    /// <summary>write_threshold; 0 for none.</summary>
    public required long WriteThreshold { get; init; }

    /// <summary>Children, by role.</summary>
    public required IReadOnlyList<ChildReport> Children { get; init; }

    /// <summary>The group of a throttle node on top of this one, or of this one; null without.</summary>
    public ThrottleGroup? Throttle { get; init; }

    /// <summary>For qcow2.</summary>
    public Qcow2Report? Qcow2 { get; init; }

    /// <summary>Internal snapshots.</summary>
    public IReadOnlyList<SnapshotEntry> Snapshots { get; init; } = [];
}

/// <summary>A child of a node.</summary>
/// <param name="Role">"file", "backing", ...</param>
/// <param name="NodeName">Its name.</param>
public sealed record ChildReport(string Role, string NodeName);

/// <summary>What the header of a qcow2 image says, in the terms of ImageInfoSpecificQCow2.</summary>
public sealed record Qcow2Report
{
    /// <summary>2 or 3: compat 0.10 or 1.1.</summary>
    public required int Version { get; init; }

    /// <summary>"zlib" or "zstd".</summary>
    public required string CompressionType { get; init; }

    /// <summary>lazy-refcounts.</summary>
    public required bool LazyRefcounts { get; init; }

    /// <summary>refcount-bits.</summary>
    public required int RefcountBits { get; init; }

    /// <summary>corrupt.</summary>
    public required bool Corrupt { get; init; }

    /// <summary>dirty-flag.</summary>
    public required bool Dirty { get; init; }

    /// <summary>extended-l2.</summary>
    public required bool ExtendedL2 { get; init; }

    /// <summary>data-file as stored.</summary>
    public string? DataFile { get; init; }

    /// <summary>data-file-raw; null without a data file.</summary>
    public bool? DataFileRaw { get; init; }

    /// <summary>The stored name of the backing file; null if none.</summary>
    public string? BackingFileName { get; init; }

    /// <summary>The stored format of the backing file.</summary>
    public string? BackingFormat { get; init; }
}

/// <summary>One vertex of the graph (FEATURES Q8).</summary>
/// <param name="Id">Number within this answer, from 1 on.</param>
/// <param name="Type">"block-driver" or "block-backend".</param>
public sealed record GraphVertexReport(int Id, string Type, string Name);

/// <summary>One edge of the graph.</summary>
/// <param name="Name">The child's role.</param>
public sealed record GraphEdgeReport(int Parent, int Child, string Name, NodePermission Held, NodePermission Shared);

/// <summary>The whole graph.</summary>
public sealed record GraphReport(IReadOnlyList<GraphVertexReport> Vertices, IReadOnlyList<GraphEdgeReport> Edges);

/// <summary>What a query tells of one device (FEATURES Q6, Q7).</summary>
/// <param name="Root">The active layer.</param>
/// <param name="Frozen">Its writes wait (stop).</param>
/// <param name="Statistics">Counters since it was opened.</param>
public sealed record DeviceReport(string Name, NodeReport Root, long Size, bool ReadOnly, bool Frozen, DeviceStatistics Statistics);
