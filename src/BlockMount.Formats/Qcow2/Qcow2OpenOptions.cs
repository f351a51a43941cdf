namespace BlockMount.Formats.Qcow2;

/// <summary>Run-time options of one qcow2 image.</summary>
public sealed record Qcow2OpenOptions
{
    /// <summary>The image is not changed, not even its autoclear bits.</summary>
    public bool ReadOnly { get; init; }

    /// <summary>Memory for cached metadata in bytes. The caches never hold fewer than two slices each, so the bound is soft at the low end.</summary>
    public long CacheBytes { get; init; } = 32 << 20;

    /// <summary>Space of discarded and otherwise freed clusters is given back to the host file system.</summary>
    public bool DiscardToHost { get; init; } = true;

    /// <summary>
    /// The internal snapshot to show, by id or else by name, instead of the active state; null shows the active state. Only with
    /// <see cref="ReadOnly"/>.
    /// </summary>
    public string? Snapshot { get; init; }
}
