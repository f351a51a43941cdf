using System.Diagnostics;

namespace BlockMount.TestSupport.Model;

/// <summary>
/// What a disk may hold, sector by sector: every value written is kept with the ticks between which the write ran, so that any question of the kind
/// "may this be read now" or "may this be read after a power cut then" has an answer. The size of the disk is tracked in the same way. Single-threaded.
/// <para>A value v is admissible for an observer who knows that everything up to tick K is settled and who looks at tick T, if v was begun before T, and
/// no settled value was begun after v had ended. For a read, K is its beginning; after a power cut, K is the beginning of the last flush that had ended.</para>
/// </summary>
public sealed class ReferenceImage
{
    /// <summary>Unit of what is tracked, in bytes.</summary>
    public const int SectorSize = 512;

    private readonly Func<long> _tick;

    // The disk as the last operation begun leaves it; partial sectors build on it.
    private readonly byte[] _current;
    private readonly List<Version>[] _sectors;
    private readonly List<SizeVersion> _sizes = [];
    private readonly List<(long Begin, long End)> _flushes = [];

    /// <param name="capacity">The largest size that the disk will have, in bytes; a multiple of 512.</param>
    /// <param name="initial">Its content now, which is durable; a multiple of 512 bytes.</param>
    /// <param name="tick">The clock: each call gives the next tick, beginning with 0 or more.</param>
    public ReferenceImage(long capacity, ReadOnlySpan<byte> initial, Func<long> tick)
    {
        Debug.Assert(capacity % SectorSize == 0);
        Debug.Assert(initial.Length % SectorSize == 0);
        _tick = tick;
        _current = new byte[capacity];
        initial.CopyTo(_current);
        byte[] copy = initial.ToArray();
        _sectors = new List<Version>[capacity / SectorSize];
        for (int i = 0; i < _sectors.Length; i++)
        {
            byte[]? data = i * SectorSize < copy.Length ? copy : null;
            _sectors[i] = [new Version { Begin = -2, End = -1, Data = data, DataOffset = i * SectorSize }];
        }

        Size = initial.Length;
        _sizes.Add(new SizeVersion { Begin = -2, End = -1, Size = Size });
    }

    /// <summary>The size that the last resize begun gives, in bytes.</summary>
    public long Size { get; private set; }

    /// <summary>The disk as the operations begun so far leave it, in the order of their beginning.</summary>
    public ReadOnlySpan<byte> Current => _current.AsSpan(0, (int)Size);

    /// <summary>A write begins. Complete it with <see cref="End"/>; if it fails, never: then old and new remain admissible.</summary>
    public Change BeginWrite(long offset, ReadOnlySpan<byte> data)
    {
        data.CopyTo(_current.AsSpan((int)offset));
        return Begin(offset, data.Length);
    }

    /// <summary>A request to zero a range begins.</summary>
    public Change BeginZero(long offset, long length)
    {
        _current.AsSpan((int)offset, (int)length).Clear();
        return Begin(offset, length);
    }

    /// <summary>
    /// A discard begins. Until it ends each whole sector may hold what it held or zeros; complete it with <see cref="EndDiscard"/> and the content read then.
    /// </summary>
    public Change BeginDiscard(long offset, long length)
    {
        long end = offset + length;
        int first = (int)((offset + SectorSize - 1) / SectorSize);
        int last = (int)(end == Size ? (end + SectorSize - 1) / SectorSize : end / SectorSize);
        Change change = new(_tick(), first, Math.Max(last - first, 0));
        for (int i = first; i < last; i++)
        {
            change.Versions.Add(AddVersion(i, new Version { Begin = change.Begin }));
        }

        return change;
    }

    /// <summary>The write or zero has succeeded.</summary>
    public void End(Change change)
    {
        long end = _tick();
        foreach (Version version in change.Versions)
        {
            version.End = end;
        }

        if (change.Resize is not null)
        {
            change.Resize.End = end;
        }
    }

    /// <summary>
    /// The discard has ended. <paramref name="read"/> is what the disk holds now from the first sector of the change on: what became zero stays so, what
    /// did not has not changed. Only for discards that nothing overlaps.
    /// </summary>
    /// <returns>The first byte that holds neither, or -1.</returns>
    public long EndDiscard(Change change, ReadOnlySpan<byte> read)
    {
        long end = _tick();
        for (int i = 0; i < change.Versions.Count; i++)
        {
            int offset = (change.FirstSector + i) * SectorSize;
            Span<byte> current = _current.AsSpan(offset, SectorSize);
            ReadOnlySpan<byte> now = read.Slice(i * SectorSize, SectorSize);
            if (!now.ContainsAnyExcept((byte)0))
            {
                current.Clear();
                change.Versions[i].End = end;
            }
            else if (now.SequenceEqual(current))
            {
                change.Versions[i].CancelledAt = end;
            }
            else
            {
                return offset;
            }
        }

        return -1;
    }

    /// <summary>
    /// A change of the size begins: what is new reads as zeros. Complete it with <see cref="End"/>. What is cut off may become zeros or, if an earlier resize is
    /// under way or failed, may not have been cut off.
    /// </summary>
    public Change BeginResize(long size)
    {
        Debug.Assert(size % SectorSize == 0);
        (long least, long most) = PossibleSizes();
        Change change = Begin(most, Math.Max(size - most, 0), clear: true);
        // Nobody completes this one.
        Begin(Math.Min(least, size), most - Math.Min(least, size), clear: true);
        change.Resize = new SizeVersion { Begin = change.Begin, Size = size };
        _sizes.Add(change.Resize);
        Size = size;
        return change;
    }

    /// <summary>A flush begins; give the result to <see cref="EndFlush"/> if it succeeds.</summary>
    public long BeginFlush() => _tick();

    /// <summary>The flush that began at <paramref name="begin"/> has succeeded.</summary>
    public void EndFlush(long begin) => _flushes.Add((begin, _tick()));

    /// <summary>Begin and end of every successful flush, in the order of their ends.</summary>
    public IReadOnlyList<(long Begin, long End)> Flushes => _flushes;

    /// <summary>What a power cut at <paramref name="cut"/> cannot undo: everything that had ended before this tick.</summary>
    public long SettledAt(long cut)
    {
        long settled = 0;
        foreach ((long begin, long end) in _flushes)
        {
            if (end < cut)
            {
                settled = Math.Max(settled, begin);
            }
        }

        return settled;
    }

    /// <summary>True if the disk may have this size for an observer (see the class).</summary>
    public bool AdmitsSize(long size, long settled, long now)
    {
        long floor = long.MinValue;
        foreach (SizeVersion version in _sizes)
        {
            floor = version.End < settled ? Math.Max(floor, version.Begin) : floor;
        }

        return _sizes.Exists(version => version.Size == size && version.Begin < now && version.End > floor);
    }

    /// <summary>The first sector of <paramref name="content"/>, which lies at <paramref name="offset"/>, that an observer may not see (see the class); -1 if none.</summary>
    /// <param name="remember">The observer is a read that ends at <paramref name="now"/>: later reads may not see anything older.</param>
    public long FindForeignSector(long offset, ReadOnlySpan<byte> content, long settled, long now, bool remember = false)
    {
        Debug.Assert(offset % SectorSize == 0);
        Debug.Assert(content.Length % SectorSize == 0);
        for (int i = 0; i < content.Length / SectorSize; i++)
        {
            int sector = (int)(offset / SectorSize) + i;
            if (!Admits(_sectors[sector], content.Slice(i * SectorSize, SectorSize), settled, now, remember))
            {
                return sector;
            }
        }

        return -1;
    }

    /// <summary>The versions of one sector, for messages.</summary>
    public string Describe(long sector, ReadOnlySpan<byte> actual)
    {
        byte[] copy = actual.ToArray();
        IEnumerable<string> versions = _sectors[sector].Select(version =>
            $"[{version.Begin},{(version.End == long.MaxValue ? "-" : version.End)}] {Convert.ToHexString(Bytes(version)[..8])}{(Matches(version, copy) ? " <- found" : "")}");
        return $"sector {sector} holds {Convert.ToHexString(copy.AsSpan(0, 8))}, its versions: {string.Join("; ", versions)}";
    }

    // What no resize that has ended is known to have replaced.
    private (long Least, long Most) PossibleSizes()
    {
        long floor = long.MinValue;
        foreach (SizeVersion version in _sizes)
        {
            floor = version.End == long.MaxValue ? floor : Math.Max(floor, version.Begin);
        }

        IEnumerable<long> sizes = _sizes.Where(version => version.End > floor).Select(version => version.Size);
        return (sizes.Min(), sizes.Max());
    }

    private Change Begin(long offset, long length, bool clear = false)
    {
        int first = (int)(offset / SectorSize);
        int end = (int)((offset + length + SectorSize - 1) / SectorSize);
        Change change = new(_tick(), first, end - first);
        if (clear)
        {
            _current.AsSpan((int)offset, (int)length).Clear();
        }

        byte[] data = _current.AsSpan(first * SectorSize, (end - first) * SectorSize).ToArray();
        for (int i = first; i < end; i++)
        {
            change.Versions.Add(AddVersion(i, new Version { Begin = change.Begin, Data = data, DataOffset = (i - first) * SectorSize }));
        }

        return change;
    }

    private Version AddVersion(int sector, Version version)
    {
        _sectors[sector].Add(version);
        return version;
    }

    private static bool Admits(List<Version> versions, ReadOnlySpan<byte> actual, long settled, long now, bool remember)
    {
        long floor = long.MinValue;
        foreach (Version version in versions)
        {
            bool isSettled = Math.Min(version.End, version.SeenAt) < settled;
            floor = isSettled ? Math.Max(floor, version.Begin) : floor;
        }

        bool found = false;
        foreach (Version version in versions)
        {
            bool inTime = version.Begin < now && version.End > floor && now <= version.CancelledAt;
            if (inTime && Matches(version, actual))
            {
                found = true;
                // With equal values in two versions the older one counts as seen: that asks less of later reads.
                if (remember)
                {
                    version.SeenAt = Math.Min(version.SeenAt, now);
                }

                break;
            }
        }

        return found;
    }

    private static bool Matches(Version version, ReadOnlySpan<byte> actual) => version.Data is null
        ? !actual.ContainsAnyExcept((byte)0)
        : version.Data.AsSpan(version.DataOffset, SectorSize).SequenceEqual(actual);

    private static ReadOnlySpan<byte> Bytes(Version version) => version.Data is null
        ? new byte[SectorSize]
        : version.Data.AsSpan(version.DataOffset, SectorSize);

    /// <summary>An operation that has begun; opaque.</summary>
    public sealed class Change
    {
        internal Change(long begin, int firstSector, int sectors)
        {
            Begin = begin;
            FirstSector = firstSector;
            Versions = new List<Version>(sectors);
        }

        /// <summary>First byte of the first sector that may change.</summary>
        public long Offset => (long)FirstSector * SectorSize;

        /// <summary>Bytes of all sectors that may change.</summary>
        public int Length => Versions.Count * SectorSize;

        internal long Begin { get; }

        internal int FirstSector { get; }

        internal List<Version> Versions { get; }

        internal SizeVersion? Resize { get; set; }
    }

    internal sealed class Version
    {
        internal long Begin { get; init; }

        internal long End { get; set; } = long.MaxValue;

        // A discard that left the sector alone could have zeroed it until then.
        internal long CancelledAt { get; set; } = long.MaxValue;

        internal long SeenAt { get; set; } = long.MaxValue;

        // Null for zeros.
        internal byte[]? Data { get; init; }

        internal int DataOffset { get; init; }
    }

    internal sealed class SizeVersion
    {
        internal long Begin { get; init; }

        internal long End { get; set; } = long.MaxValue;

        internal long Size { get; init; }
    }
}
