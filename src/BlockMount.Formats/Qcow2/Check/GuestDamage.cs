namespace BlockMount.Formats.Qcow2.Check;

/// <summary>A range of a guest disk whose content is in doubt.</summary>
/// <param name="Snapshot">The internal snapshot's name; null for the active disk.</param>
/// <param name="Offset">First byte, as a guest offset.</param>
/// <param name="Length">Bytes, at least 1.</param>
public readonly record struct GuestRange(string? Snapshot, long Offset, long Length)
{
    /// <summary>First byte behind the range.</summary>
    public long End => Offset + Length;
}

/// <summary>
/// Collects the guest ranges that findings hit. Neighbours are merged; beyond <see cref="RangesMax"/> ranges are only counted, so that memory stays
/// bounded. Single-threaded.
/// </summary>
public sealed class GuestDamage
{
    /// <summary>Ranges kept at most.</summary>
    public const int RangesMax = 1000;

    private readonly List<GuestRange> _ranges = [];
    private readonly int _rangesMax;

    /// <summary>An empty collection that keeps <see cref="RangesMax"/> ranges.</summary>
    public GuestDamage()
        : this(RangesMax)
    {
    }

    /// <param name="rangesMax">Ranges kept at most; with 0 they are only counted.</param>
    internal GuestDamage(int rangesMax)
    {
        _rangesMax = rangesMax;
    }

    /// <summary>The first ranges, in ascending order for each disk.</summary>
    public IReadOnlyList<GuestRange> Ranges => _ranges;

    /// <summary>Ranges found; more than <see cref="Ranges"/> has when the list was cut off.</summary>
    public long TotalRanges { get; private set; }

    /// <summary>Bytes in all ranges that were found.</summary>
    public long TotalBytes { get; private set; }

    /// <summary>True if <see cref="Ranges"/> lacks some.</summary>
    public bool IsCutOff => TotalRanges > _ranges.Count;

    /// <summary>True if the byte may have been hit; a list that was cut off admits everything.</summary>
    public bool Covers(string? snapshot, long offset)
    {
        if (IsCutOff)
        {
            return true;
        }

        foreach (GuestRange range in _ranges)
        {
            if (range.Snapshot == snapshot && offset >= range.Offset && offset < range.End)
            {
                return true;
            }
        }

        return false;
    }

    internal void Add(string? snapshot, long offset, long length)
    {
        if (length <= 0)
        {
            return;
        }

        // Tables are walked in ascending order, so a neighbour is among the last ranges; the same range may come from a second finding.
        for (int i = _ranges.Count - 1; i >= Math.Max(0, _ranges.Count - 8); i--)
        {
            GuestRange last = _ranges[i];
            if (last.Snapshot == snapshot && offset >= last.Offset && offset <= last.End)
            {
                long end = Math.Max(last.End, offset + length);
                TotalBytes += end - last.End;
                _ranges[i] = last with { Length = end - last.Offset };
                return;
            }
        }

        TotalRanges++;
        TotalBytes += length;
        if (_ranges.Count < _rangesMax)
        {
            _ranges.Add(new GuestRange(snapshot, offset, length));
        }
    }

    /// <summary>Counts ranges that nobody lists, because the list is cut off already.</summary>
    internal void AddUnlisted(long ranges, long bytes)
    {
        TotalRanges += ranges;
        TotalBytes += bytes;
    }

    /// <summary>Sorts and merges what was kept.</summary>
    internal void Normalize()
    {
        bool cutOff = IsCutOff;
        long hidden = TotalRanges - _ranges.Count;
        List<GuestRange> sorted = [.. _ranges.OrderBy(range => range.Snapshot, StringComparer.Ordinal).ThenBy(range => range.Offset)];
        _ranges.Clear();
        long bytes = 0;
        foreach (GuestRange range in sorted)
        {
            if (_ranges.Count > 0 && _ranges[^1].Snapshot == range.Snapshot && range.Offset <= _ranges[^1].End)
            {
                _ranges[^1] = _ranges[^1] with { Length = Math.Max(_ranges[^1].End, range.End) - _ranges[^1].Offset };
            }
            else
            {
                _ranges.Add(range);
            }
        }

        foreach (GuestRange range in _ranges)
        {
            bytes += range.Length;
        }

        TotalRanges = _ranges.Count + hidden;
        TotalBytes = cutOff ? Math.Max(TotalBytes, bytes) : bytes;
    }
}
