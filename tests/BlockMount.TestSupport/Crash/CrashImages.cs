using System.Diagnostics;
using BlockMount.Formats.Qcow2.Check;

namespace BlockMount.TestSupport.Crash;

/// <summary>
/// Makes the states that a file may be in after a power cut at a given tick of its log. What ended before a completed flush began is there. Of the
/// rest each change may be there or not, sector by sector, whatever the order; the length may be any that the file had since.
/// (A change that ended before an overlapping one began never shows through the later one where that arrived: page cache and disk are coherent.)
/// <para>Cuts are visited in ascending order, so that one durable image is carried along; a state costs one copy of it.</para>
/// </summary>
public sealed class CrashImages
{
    /// <summary>What a disk writes as one piece, in bytes.</summary>
    public const int SectorSize = 512;

    private readonly IReadOnlyList<StorageLogEntry> _entries;
    private readonly Func<StorageLogEntry, bool>? _flushIsLost;

    // The state that no power cut undoes, and the changes that one may undo, in the order of their effect.
    private readonly byte[] _durable;
    private long _durableLength;
    private readonly List<StorageLogEntry> _pending = [];

    // Next entry of the log to become pending; flushes that have begun and not ended.
    private int _next;
    private readonly List<StorageLogEntry> _openFlushes = [];

    // The state last drawn.
    private readonly byte[] _drawn;

    /// <param name="initial">The file before the log's first entry.</param>
    /// <param name="flushIsLost">Says of a flush that the disk lied about it: a mutant that proves the harness.</param>
    public CrashImages(StorageLog log, ReadOnlySpan<byte> initial, Func<StorageLogEntry, bool>? flushIsLost = null)
    {
        _entries = log.Entries;
        _flushIsLost = flushIsLost;
        _durable = new byte[LargestLength(initial.Length)];
        _drawn = new byte[_durable.Length];
        initial.CopyTo(_durable);
        _durableLength = initial.Length;
    }

    /// <summary>Changes that the current cut may lose.</summary>
    public int PendingCount => _pending.Count;

    /// <summary>
    /// The ticks at which a cut can show something new: right after each call began, and right after each flush ended. The cut at tick t sees what
    /// happened before t.
    /// </summary>
    public static IEnumerable<long> Cuts(StorageLog log)
    {
        SortedSet<long> cuts = [0];
        foreach (StorageLogEntry entry in log.Entries)
        {
            if (entry.Kind != StorageCalls.Flush)
            {
                cuts.Add(entry.Begin + 1);
            }
            else if (entry.End != long.MaxValue)
            {
                cuts.Add(entry.End + 1);
            }
        }

        return cuts;
    }

    /// <summary>Moves the cut forward to <paramref name="tick"/>.</summary>
    public void AdvanceTo(long tick)
    {
        while (_next < _entries.Count && _entries[_next].Begin < tick)
        {
            StorageLogEntry entry = _entries[_next++];
            (entry.Kind == StorageCalls.Flush ? _openFlushes : _pending).Add(entry);
        }

        // A flush that ended guarantees what had ended when it began. Flushes are taken in the order of their ends.
        _openFlushes.Sort((left, right) => left.End.CompareTo(right.End));
        while (_openFlushes.Count > 0 && _openFlushes[0].End < tick)
        {
            if (_flushIsLost?.Invoke(_openFlushes[0]) != true)
            {
                MakeDurable(_openFlushes[0].Begin);
            }

            _openFlushes.RemoveAt(0);
        }

        // In the order of effect; what is in flight comes last.
        _pending.Sort((left, right) => left.End != right.End ? left.End.CompareTo(right.End) : left.Begin.CompareTo(right.Begin));
    }

    /// <summary>
    /// One state at the current cut. Number 0 loses everything it may, 1 nothing; then each change is lost alone, then kept alone; further numbers are
    /// random subsets with torn changes and displaced lengths. The image is valid until the next call.
    /// </summary>
    public CrashImage Draw(int number, Random random)
    {
        _durable.CopyTo(_drawn, 0);
        long length = _durableLength;
        long effectiveLength = length;
        int systematic = 2 + (2 * _pending.Count);
        int chosenLength = number < systematic || random.Next(2) == 0 ? -1 : random.Next(_pending.Count + 1) - 1;
        long displaced = length;
        for (int i = 0; i < _pending.Count; i++)
        {
            StorageLogEntry entry = _pending[i];
            effectiveLength = LengthAfter(entry, effectiveLength);
            displaced = i <= chosenLength ? effectiveLength : displaced;
            Keep keep = Choose(number, i, random);
            if (keep != Keep.Nothing)
            {
                Apply(entry, _drawn, keep == Keep.Torn ? random : null);
                length = LengthAfter(entry, length);
            }
        }

        length = number >= systematic && chosenLength >= 0 ? displaced : length;
        _drawn.AsSpan((int)length).Clear();
        return new CrashImage(_drawn, length);
    }

    /// <summary>Describes the changes that the current cut may lose, for messages.</summary>
    public string DescribePending() => string.Join("; ", _pending);

    private enum Keep
    {
        Nothing,
        All,
        Torn,
    }

    private Keep Choose(int number, int index, Random random)
    {
        int alone = number - 2;
        if (number < 2)
        {
            return number == 0 ? Keep.Nothing : Keep.All;
        }

        if (alone < _pending.Count)
        {
            return alone == index ? Keep.Nothing : Keep.All;
        }

        if (alone < 2 * _pending.Count)
        {
            return alone - _pending.Count == index ? Keep.All : Keep.Nothing;
        }

        return random.Next(4) switch { 0 => Keep.Nothing, 1 => Keep.Torn, _ => Keep.All };
    }

    private void MakeDurable(long before)
    {
        int kept = 0;
        for (int i = 0; i < _pending.Count; i++)
        {
            StorageLogEntry entry = _pending[i];
            if (entry.End < before)
            {
                Apply(entry, _durable, torn: null);
                _durableLength = LengthAfter(entry, _durableLength);
            }
            else
            {
                _pending[kept++] = entry;
            }
        }

        _pending.RemoveRange(kept, _pending.Count - kept);
    }

    private static void Apply(StorageLogEntry entry, byte[] image, Random? torn)
    {
        if (entry.Kind == StorageCalls.Resize)
        {
            // A longer file has zeros there already; a shorter one forgets what was past its end.
            if (entry.Length < image.Length)
            {
                image.AsSpan((int)entry.Length).Clear();
            }

            return;
        }

        int offset = (int)entry.FirstSectorOffset;
        for (int i = 0; i < entry.SectorCount; i++)
        {
            if (torn is not null && torn.Next(2) == 0)
            {
                continue;
            }

            Span<byte> sector = image.AsSpan(offset + (i * SectorSize), SectorSize);
            if (entry.Sectors is null)
            {
                sector.Clear();
            }
            else
            {
                entry.Sectors.AsSpan(i * SectorSize, SectorSize).CopyTo(sector);
            }
        }
    }

    private static long LengthAfter(StorageLogEntry entry, long length) => entry.Kind switch
    {
        StorageCalls.Resize => entry.Length,
        StorageCalls.PunchHole => length,
        _ => Math.Max(length, entry.Offset + entry.Length),
    };

    private int LargestLength(long initialLength)
    {
        long largest = initialLength;
        foreach (StorageLogEntry entry in _entries)
        {
            Debug.Assert(entry.Kind != StorageCalls.None);
            largest = Math.Max(largest, LengthAfter(entry, largest));
        }

        return checked((int)((largest + SectorSize - 1) / SectorSize * SectorSize));
    }
}

/// <summary>A file as a power cut left it.</summary>
/// <param name="Bytes">At least <see cref="Length"/> bytes; zeros behind. Owned by the <see cref="CrashImages"/> that drew it.</param>
/// <param name="Length">The file's length.</param>
public readonly record struct CrashImage(byte[] Bytes, long Length)
{
    /// <summary>The image's data file as the same power cut left it; null if there is none. Owned as <see cref="Bytes"/> is.</summary>
    public byte[]? DataBytes { get; init; }

    /// <summary>The data file's length.</summary>
    public long DataLength { get; init; }

    /// <summary>This state with bytes of its own.</summary>
    public CrashImage Copy() => this with { Bytes = (byte[])Bytes.Clone(), DataBytes = (byte[]?)DataBytes?.Clone() };

    /// <summary>The image says that its refcounts may be stale.</summary>
    public bool IsDirty => IsMarkedDirty(Bytes);

    /// <summary>The dirty bit of a version 3 header is set: refcounts may be stale.</summary>
    public static bool IsMarkedDirty(ReadOnlySpan<byte> image) => image[7] >= 3 && (image[79] & 1) != 0;

    /// <summary>What <paramref name="report"/> found in an image is what its dirty bit announces, and repaired before it is written to.</summary>
    public static bool Excuses(ReadOnlySpan<byte> image, CheckReport report) =>
        IsMarkedDirty(image) && report.Corruptions == report.StaleRefcounts;

    /// <summary>A file of its own with this content.</summary>
    public MemoryFile ToFile() => new("crashed", readOnly: false, Bytes.AsSpan(0, (int)Length));

    /// <summary>A data file of its own; null if there is none.</summary>
    public MemoryFile? ToDataFile() => DataBytes is null ? null : new("data", readOnly: false, DataBytes.AsSpan(0, (int)DataLength));
}
