namespace BlockMount.Storage;

/// <summary>How a host file is created. Immutable.</summary>
public sealed record StorageCreateOptions
{
    /// <summary>Length of the new file in bytes; it reads as zeros and holds no space.</summary>
    public long Length { get; init; }

    /// <summary>
    /// True to empty an existing file (or take a block device as it is), once its locks say that nobody uses it.
    /// False to fail if the path exists.
    /// </summary>
    public bool Overwrite { get; init; }

    /// <summary>Permission bits of a new file, before the umask.</summary>
    public uint Mode { get; init; } = 0x1A4; // 0644

    /// <summary>How the created file is handed out. Must not be read-only.</summary>
    public StorageOpenOptions Open { get; init; } = new();
}
