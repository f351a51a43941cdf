namespace BlockMount.Formats.Qcow2.OnDisk;

/// <summary>One internal snapshot as the image lists it. Text is foreign: it may hold anything but is valid UTF-16.</summary>
public sealed record SnapshotEntry
{
    /// <summary>Unique within the image, usually a decimal number.</summary>
    public required string Id { get; init; }

    public required string Name { get; init; }

    public required long L1TableOffset { get; init; }

    /// <summary>Entries of the snapshot's L1 table.</summary>
    public required int L1Size { get; init; }

    /// <summary>Size in bytes of the disk when the snapshot was taken; that of today where the entry does not say.</summary>
    public required long DiskSize { get; init; }

    /// <summary>Seconds since 1970, UTC.</summary>
    public required long DateSeconds { get; init; }

    /// <summary>0 to 999,999,999 by the specification; as stored.</summary>
    public required long DateNanoseconds { get; init; }

    /// <summary>Guest time when the snapshot was taken.</summary>
    public required ulong VmClockNanoseconds { get; init; }

    /// <summary>Bytes of saved machine state; 0 for a snapshot of the disk alone.</summary>
    public required long VmStateSize { get; init; }

    /// <summary>Instruction count of a replay, or null.</summary>
    public long? InstructionCount { get; init; }

    /// <summary>Bytes of the entry in the table, padding included.</summary>
    public int StoredLength { get; init; }

    /// <summary>The entry was read from an image: what is stored of it is kept.</summary>
    public bool IsStored { get; init; }

    /// <summary>
    /// The entry's extra data as stored; empty for a new entry. Its first 24 bytes repeat properties above; what follows is unknown and is kept.
    /// </summary>
    public ReadOnlyMemory<byte> ExtraData { get; init; }

    /// <summary>The id as stored, which need not be UTF-8; empty for a new entry.</summary>
    public ReadOnlyMemory<byte> StoredId { get; init; }

    /// <summary>The name as stored, likewise.</summary>
    public ReadOnlyMemory<byte> StoredName { get; init; }
}

/// <summary>The snapshot table of an image as it is stored.</summary>
/// <param name="Length">Bytes from the first entry to the end of the last; 0 without entries.</param>
public sealed record StoredSnapshotTable(IReadOnlyList<SnapshotEntry> Entries, long Length);
