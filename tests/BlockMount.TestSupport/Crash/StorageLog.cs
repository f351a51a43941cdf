namespace BlockMount.TestSupport.Crash;

/// <summary>
/// What a <see cref="RecordingFile"/> did to its file, on one clock that the test shares: every begin and end of anything takes a tick of its own.
/// Single-threaded.
/// </summary>
public sealed class StorageLog
{
    private readonly List<StorageLogEntry> _entries = [];
    private readonly StorageLog? _clock;
    private long _now;

    /// <param name="clock">The log of another file that is written beside this one, whose clock is used; null for an own one.</param>
    public StorageLog(StorageLog? clock = null)
    {
        _clock = clock;
    }

    /// <summary>The next tick: everything that has happened has a smaller one.</summary>
    public long Now => _clock?.Now ?? _now;

    /// <summary>In the order of <see cref="StorageLogEntry.Begin"/>.</summary>
    public IReadOnlyList<StorageLogEntry> Entries => _entries;

    /// <summary>Takes a tick, for an event of the test's own.</summary>
    public long Tick() => _clock?.Tick() ?? _now++;

    internal StorageLogEntry Begin(StorageCalls kind, long offset, long length)
    {
        StorageLogEntry entry = new() { Kind = kind, Offset = offset, Length = length, Begin = Tick() };
        _entries.Add(entry);
        return entry;
    }

    internal void End(StorageLogEntry entry) => entry.End = Tick();
}

/// <summary>One change or flush of the file.</summary>
public sealed class StorageLogEntry
{
    /// <summary>Write, WriteZeroes, PunchHole, Resize or Flush.</summary>
    public StorageCalls Kind { get; init; }

    /// <summary>First byte, exactly as called; 0 for Resize and Flush.</summary>
    public long Offset { get; init; }

    /// <summary>Bytes changed; the new length for Resize; 0 for Flush.</summary>
    public long Length { get; init; }

    /// <summary>When the call was made.</summary>
    public long Begin { get; init; }

    /// <summary>When it had taken effect; <see cref="long.MaxValue"/> while it has not.</summary>
    public long End { get; internal set; } = long.MaxValue;

    /// <summary>
    /// The whole sectors that the change touches, as they are after it; null where all of them become zeros or for Resize and Flush.
    /// A sector in the page cache is written out whole, so a change of a part of it carries the rest along.
    /// </summary>
    internal byte[]? Sectors { get; set; }

    /// <summary>First byte of the first sector touched.</summary>
    internal long FirstSectorOffset => Offset & ~(CrashImages.SectorSize - 1L);

    /// <summary>Sectors touched.</summary>
    internal int SectorCount => Kind is StorageCalls.Resize or StorageCalls.Flush
        ? 0
        : (int)((Offset + Length + CrashImages.SectorSize - 1 - FirstSectorOffset) / CrashImages.SectorSize);

    public override string ToString() =>
        $"{Kind} at {Offset} + {Length} [{Begin}, {(End == long.MaxValue ? "in flight" : End)}]";
}
