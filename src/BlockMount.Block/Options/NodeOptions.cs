using BlockMount.Block.Filters;
using BlockMount.Block.Nodes;
using BlockMount.Formats.Qcow2;
using BlockMount.Storage;

namespace BlockMount.Block.Options;

/// <summary>What blockdev-add is told of a node, whatever its driver (FEATURES Q1). Immutable; names and defaults are QEMU's.</summary>
public abstract record NodeOptions
{
    /// <summary>node-name; must be given for the node that a command adds, and is invented for others.</summary>
    public string? NodeName { get; init; }

    /// <summary>read-only; null: as the node above, and false for the uppermost.</summary>
    public bool? ReadOnly { get; init; }

    /// <summary>auto-read-only: open for reading what cannot be opened for writing, and files that nobody writes to; a writer that comes opens them for writing.</summary>
    public bool AutoReadOnly { get; init; }

    /// <summary>force-share: beside any other user; needs <see cref="ReadOnly"/>.</summary>
    public bool ForceShare { get; init; }

    /// <summary>discard: true for unmap, discards are passed on; null: false for a node that has a name of its own, and true for one that is described within its user.</summary>
    public bool? Discard { get; init; }

    /// <summary>detect-zeroes; of images only. Unmap needs <see cref="Discard"/>.</summary>
    public DetectZeroes DetectZeroes { get; init; }

    /// <summary>cache.direct; null: as the node above.</summary>
    public bool? Direct { get; init; }

    /// <summary>cache.no-flush; null: as the node above.</summary>
    public bool? NoFlush { get; init; }

    /// <summary>"file", "qcow2", ...</summary>
    public abstract string Driver { get; }
}

/// <summary>Another node as a child: one that is there, by its name, or one to be made.</summary>
public sealed record ChildOption
{
    private ChildOption()
    {
    }

    /// <summary>The name of a node that is there.</summary>
    public string? Name { get; private init; }

    /// <summary>The options of a node to be made.</summary>
    public NodeOptions? Options { get; private init; }

    /// <summary>A node that is there.</summary>
    public static ChildOption Of(string name) => new() { Name = name };

    /// <summary>A node to be made.</summary>
    public static ChildOption Of(NodeOptions options) => new() { Options = options };
}

/// <summary>Drivers "file" and "host_device".</summary>
public sealed record FileNodeOptions : NodeOptions
{
    /// <summary>The path.</summary>
    public required string FileName { get; init; }

    /// <summary>The driver is "host_device": a block device is expected, and otherwise a regular file.</summary>
    public bool IsHostDevice { get; init; }

    /// <summary>locking: false for off, true for on; null: not given, or auto, which locks.</summary>
    public bool? Lock { get; init; }

    /// <summary>aio; null: not given, the best one.</summary>
    public IoEngine? Engine { get; init; }

    /// <summary>aio=native: asynchronous requests of the kernel. Needs cache.direct; done as <see cref="IoEngine.Auto"/>.</summary>
    public bool IsNative { get; init; }

    /// <summary>Other writers are admitted; not QEMU's.</summary>
    public bool ShareWrite { get; init; }

    /// <inheritdoc/>
    public override string Driver => IsHostDevice ? "host_device" : "file";
}

/// <summary>Driver "qcow2".</summary>
public sealed record Qcow2NodeOptions : NodeOptions
{
    /// <summary>file.</summary>
    public required ChildOption File { get; init; }

    /// <summary>data-file; null: what the header names.</summary>
    public ChildOption? DataFile { get; init; }

    /// <summary>backing; null: what the header names, unless <see cref="NoBacking"/>.</summary>
    public ChildOption? Backing { get; init; }

    /// <summary>backing=null.</summary>
    public bool NoBacking { get; init; }

    /// <summary>encrypt.format; null: none. No image that can be opened has one.</summary>
    public string? EncryptionFormat { get; init; }

    /// <summary>The driver's own options.</summary>
    public Qcow2RuntimeOptions Runtime { get; init; } = new();

    /// <inheritdoc/>
    public override string Driver => "qcow2";
}

/// <summary>Driver "raw".</summary>
public sealed record RawNodeOptions : NodeOptions
{
    /// <summary>file.</summary>
    public required ChildOption File { get; init; }

    /// <summary>offset: where the disk begins in the file, in bytes.</summary>
    public long Offset { get; init; }

    /// <summary>size: bytes of the disk; null: to the end of the file.</summary>
    public long? Size { get; init; }

    /// <inheritdoc/>
    public override string Driver => "raw";
}

/// <summary>Drivers "null-co" and "null-aio".</summary>
public sealed record NullNodeOptions : NodeOptions
{
    /// <summary>size, in bytes; null: 1 GiB.</summary>
    public long? Size { get; init; }

    /// <summary>latency-ns; null: none.</summary>
    public TimeSpan? Latency { get; init; }

    /// <summary>read-zeroes; null: false.</summary>
    public bool? ReadZeroes { get; init; }

    /// <summary>The driver is "null-aio".</summary>
    public bool IsAio { get; init; }

    /// <inheritdoc/>
    public override string Driver => IsAio ? "null-aio" : "null-co";
}

/// <summary>Driver "throttle".</summary>
public sealed record ThrottleNodeOptions : NodeOptions
{
    /// <summary>file.</summary>
    public required ChildOption File { get; init; }

    /// <summary>throttle-group, which is there.</summary>
    public required string Group { get; init; }

    /// <inheritdoc/>
    public override string Driver => "throttle";
}

/// <summary>Driver "copy-on-read".</summary>
public sealed record CopyOnReadNodeOptions : NodeOptions
{
    /// <summary>file.</summary>
    public required ChildOption File { get; init; }

    /// <summary>bottom: name of the lowest node that is copied from; null: all of them.</summary>
    public string? Bottom { get; init; }

    /// <inheritdoc/>
    public override string Driver => "copy-on-read";
}

/// <summary>Driver "blkdebug".</summary>
public sealed record BlkdebugNodeOptions : NodeOptions
{
    /// <summary>image.</summary>
    public required ChildOption Image { get; init; }

    /// <summary>inject-error.</summary>
    public IReadOnlyList<InjectError> InjectErrors { get; init; } = [];

    /// <summary>set-state.</summary>
    public IReadOnlyList<SetState> SetStates { get; init; } = [];

    /// <inheritdoc/>
    public override string Driver => "blkdebug";
}
