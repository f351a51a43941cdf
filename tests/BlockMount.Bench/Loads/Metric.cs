namespace BlockMount.Bench.Loads;

/// <summary>A figure of a run.</summary>
internal enum Metric
{
    /// <summary>Requests per second.</summary>
    Iops,

    /// <summary>Megabytes (10^6) per second.</summary>
    Bandwidth,

    /// <summary>Percentiles of the completion latency, microseconds.</summary>
    P50,
    P99,
    P999,

    /// <summary>User and system time of the serving process per request, microseconds.</summary>
    CpuPerRequest,

    /// <summary>Microseconds from one completion to the next of a single submitter.</summary>
    TimePerRequest,
}

/// <summary>What each metric is called and which way is better.</summary>
internal static class Metrics
{
    public static string Unit(this Metric metric) => metric switch
    {
        Metric.Iops => "IOPS",
        Metric.Bandwidth => "MB/s",
        Metric.CpuPerRequest => "µs CPU",
        _ => "µs",
    };

    /// <summary>A smaller figure is better: a bound is then the largest ratio allowed.</summary>
    public static bool LessIsBetter(this Metric metric) => metric is not (Metric.Iops or Metric.Bandwidth);

    /// <summary>Follows the load's name in a table; empty for throughput.</summary>
    public static string Suffix(this Metric metric) => metric switch
    {
        Metric.P50 => ", p50",
        Metric.P99 => ", p99",
        Metric.P999 => ", p99.9",
        Metric.CpuPerRequest => ", CPU per request",
        _ => "",
    };
}
