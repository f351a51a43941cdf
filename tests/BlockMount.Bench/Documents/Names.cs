using System.Globalization;
using BlockMount.Bench.Loads;

namespace BlockMount.Bench.Documents;

/// <summary>How contenders and figures are written, the same in the terminal, the document and the plots.</summary>
internal static class Names
{
    /// <summary>The head of a contender's column.</summary>
    public static string Of(Contender contender) => contender switch
    {
        Contender.BlockMount => "BlockMount",
        Contender.Qemu => "QEMU",
        Contender.NewerQemu => "newer QEMU",
        Contender.Nbdkit => "nbdkit (raw)",
        _ => "native file (raw)",
    };

    /// <summary>The head of a metric's column, with its unit.</summary>
    public static string Of(Metric metric) => metric switch
    {
        Metric.P50 => "p50, µs",
        Metric.P99 => "p99, µs",
        Metric.P999 => "p99.9, µs",
        Metric.CpuPerRequest => "CPU per request, µs",
        _ => metric.Unit(),
    };

    /// <summary>What a ratio is to.</summary>
    public static string Reference(Workload row) => row.OwnBaseline is { } own ? $"itself, chain of {own.Disk.Depth}" : Of(row.Against);

    /// <summary>1,234 or 56.7; "-" for none.</summary>
    public static string Figure(double? value) => value switch
    {
        null => "-",
        >= 100 => value.Value.ToString("#,##0", CultureInfo.InvariantCulture),
        _ => value.Value.ToString("0.0", CultureInfo.InvariantCulture),
    };

    /// <summary>2.41x; "-" for none.</summary>
    public static string Times(double? ratio) => ratio is { } value ? value.ToString("0.00", CultureInfo.InvariantCulture) + "x" : "-";

    /// <summary>A limited figure: ratios have two decimals.</summary>
    public static string Figure(double? value, string unit) => unit == "x" ? Times(value) : Figure(value);
}
