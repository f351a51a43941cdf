namespace BlockMount.Formats.Qcow2.Amend;

/// <summary>What is to be changed about an existing image; null leaves it as it is. The size is changed through the node (<c>ResizeAsync</c>), not here.</summary>
public sealed record AmendOptions
{
    /// <summary>2 or 3.</summary>
    public int? Version { get; init; }

    /// <summary>Width of a refcount: 1, 2, 4, ... 64.</summary>
    public long? RefcountBits { get; init; }

    public bool? LazyRefcounts { get; init; }

    /// <summary>Name of the external data file, for an image that has one; empty removes the name.</summary>
    public string? DataFile { get; init; }

    /// <summary>Can only be switched off.</summary>
    public bool? DataFileRaw { get; init; }

    /// <summary>Not changed here: must be what the image has.</summary>
    public string? BackingFile { get; init; }

    /// <summary>Not changed here: must be what the image has.</summary>
    public string? BackingFormat { get; init; }

    /// <summary>The size that the disk will have at the end, in bytes: internal snapshots of another size cannot be stored in version 2.</summary>
    public long? Size { get; init; }
}
