using BlockMount.Block.Graph;

namespace BlockMount.Block.Filters;

/// <summary>One limit of a throttle group.</summary>
/// <param name="Average">Units a second in the long run; 0 for no limit.</param>
/// <param name="Max">Units a second in a burst; 0 for no burst beyond a tenth of a second's worth.</param>
/// <param name="MaxLength">Seconds that a burst may last; at least 1.</param>
public readonly record struct ThrottleLimit(long Average, long Max = 0, long MaxLength = 1);

/// <summary>The limits of a throttle group, as throttle-group's "limits" (FEATURES D10). Bytes and requests a second. Immutable.</summary>
public sealed record ThrottleLimits
{
    /// <summary>bps-total.</summary>
    public ThrottleLimit BpsTotal { get; init; } = new(0);

    /// <summary>bps-read.</summary>
    public ThrottleLimit BpsRead { get; init; } = new(0);

    /// <summary>bps-write.</summary>
    public ThrottleLimit BpsWrite { get; init; } = new(0);

    /// <summary>iops-total.</summary>
    public ThrottleLimit IopsTotal { get; init; } = new(0);

    /// <summary>iops-read.</summary>
    public ThrottleLimit IopsRead { get; init; } = new(0);

    /// <summary>iops-write.</summary>
    public ThrottleLimit IopsWrite { get; init; } = new(0);

    /// <summary>iops-size: a request counts as one for each so many bytes; 0: always as one.</summary>
    public long IopsSize { get; init; }

    internal IEnumerable<ThrottleLimit> All => [BpsTotal, BpsRead, BpsWrite, IopsTotal, IopsRead, IopsWrite];

    /// <summary>Refuses limits that contradict each other.</summary>
    /// <exception cref="GraphException">In QEMU's words.</exception>
    public void Check()
    {
        if (Conflicts(BpsTotal, BpsRead, BpsWrite) || Conflicts(IopsTotal, IopsRead, IopsWrite))
        {
            throw new GraphException("bps/iops/max total values and read/write values cannot be used at the same time");
        }

        if (IopsSize > 0 && IopsTotal.Average == 0 && IopsRead.Average == 0 && IopsWrite.Average == 0)
        {
            throw new GraphException("iops size requires an iops value to be set");
        }

        foreach (ThrottleLimit limit in All)
        {
            Check(limit);
        }
    }

    private static void Check(ThrottleLimit limit)
    {
        const long ValueMax = 1_000_000_000_000_000;
        if (limit.Average is < 0 or > ValueMax || limit.Max is < 0 or > ValueMax)
        {
            throw new GraphException($"bps/iops/max values must be within [0, {ValueMax}]");
        }

        if (limit.MaxLength < 1)
        {
            throw new GraphException("the burst length cannot be 0");
        }

        if (limit.MaxLength > 1 && limit.Max == 0)
        {
            throw new GraphException("burst length set without burst rate");
        }

        if (limit.Max > 0 && limit.Average == 0)
        {
            throw new GraphException("bps_max/iops_max require corresponding bps/iops values");
        }

        if (limit.Max > 0 && limit.Max < limit.Average)
        {
            throw new GraphException("bps_max/iops_max cannot be lower than bps/iops");
        }
    }

    private static bool Conflicts(ThrottleLimit total, ThrottleLimit read, ThrottleLimit write) =>
        (total.Average > 0 && (read.Average > 0 || write.Average > 0)) || (total.Max > 0 && (read.Max > 0 || write.Max > 0));
}
