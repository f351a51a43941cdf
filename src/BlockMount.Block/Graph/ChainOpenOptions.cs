using BlockMount.Formats;
using BlockMount.Formats.Qcow2;
using BlockMount.Formats.Qcow2.Repair;
using BlockMount.Storage;

namespace BlockMount.Block.Graph;

/// <summary>How a chain is opened. Immutable.</summary>
public sealed record ChainOpenOptions
{
    /// <summary>Format of the active layer ("raw", "qcow2"); null recognises qcow2 by its header and refuses everything else.</summary>
    public string? Format { get; init; }

    /// <summary>
    /// For inspection only: what an active layer without a recognised header is taken for. Null, the default, refuses it,
    /// because a guest decides what a raw disk looks like.
    /// </summary>
    public string? FormatWhenUnknown { get; init; }

    /// <summary>Format of backing files whose image does not record one and that are not recognised; null refuses them.</summary>
    public string? BackingFormatDefault { get; init; }

    /// <summary>
    /// The active layer's external data file, named by the user: a regular file or a block device. Null opens the one that the image names, if the
    /// policy admits it.
    /// </summary>
    public string? DataFile { get; init; }

    /// <summary>The active layer is not written to. Backing files never are.</summary>
    public bool ReadOnly { get; init; }

    /// <summary>Bypass the host's page cache, for all images.</summary>
    public bool Direct { get; init; }

    /// <summary>Flushes are not passed to the host.</summary>
    public bool NoFlush { get; init; }

    /// <summary>Who does the transfers that have to wait for the disk, for all images.</summary>
    public IoEngine Engine { get; init; }

    /// <summary>Admit other writers of the active layer.</summary>
    public bool ShareWrite { get; init; }

    /// <summary>Read-only inspection beside a writer (qemu-img -U), for all images.</summary>
    public bool ForceShare { get; init; }

    /// <summary>Take image locks.</summary>
    public bool Lock { get; init; } = true;

    /// <summary>Space of discarded clusters goes back to the host file system.</summary>
    public bool DiscardToHost { get; init; } = true;

    /// <summary>
    /// Memory for cached metadata in bytes: the caches of all images of the chain and the index over them together (<see cref="MetadataBudget"/>), unless
    /// <see cref="Qcow2"/> says another total. Sizes that are given there for single caches of the active layer come off it first.
    /// </summary>
    public long MetadataCacheBytes { get; init; } = 64L << 20;

    /// <summary>
    /// The internal snapshot of the active layer to show, by id or else by name; null shows its active state. Needs <see cref="ReadOnly"/>.
    /// </summary>
    public string? Snapshot { get; init; }

    /// <summary>Run-time options of a qcow2 active layer.</summary>
    public Qcow2RuntimeOptions Qcow2 { get; init; } = new();

    /// <summary>Repairs an active layer that is marked dirty before it is written to; null refuses it. See <see cref="Qcow2OpenOptions.RepairDirty"/>.</summary>
    public Func<StorageFile, ValueTask>? RepairDirty { get; init; } = DirtyImage.RepairAsync;

    /// <summary>Told once for each image of the chain that is found damaged while it is in use. Any thread; must not throw or wait.</summary>
    public Action<CorruptionReport>? OnCorruption { get; init; }

    /// <summary>Name of the active layer's node; the backing nodes append "-1", "-2", ... Empty: the graph that adopts the nodes names them.</summary>
    public string NodeName { get; init; } = "node0";
}
