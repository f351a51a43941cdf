using System.Globalization;

namespace BlockMount.Bench;

/// <summary>How long and how often is measured. BENCH_PAIRS, BENCH_SECONDS and BENCH_FOLDER override; --quick is for a look.</summary>
internal sealed record BenchSettings
{
    /// <summary>Runs of each side per workload; the median counts.</summary>
    public required int Pairs { get; init; }

    /// <summary>Seconds of one fio run.</summary>
    public required int Seconds { get; init; }

    /// <summary>Where images lie: a tmpfs, so that storage costs nothing.</summary>
    public required string Folder { get; init; }

    /// <summary>Only workloads whose name contains this.</summary>
    public string Filter { get; init; } = "";

    /// <summary>Where the results are written; null for partial or quick runs, which must not replace real ones.</summary>
    public string? Document { get; init; }

    public static BenchSettings Read(string[] arguments)
    {
        bool quick = arguments.Contains("--quick");
        string? filter = arguments.FirstOrDefault(argument => !argument.StartsWith("--", StringComparison.Ordinal));
        return new BenchSettings
        {
            Pairs = Number("BENCH_PAIRS", quick ? 1 : 5),
            Seconds = Number("BENCH_SECONDS", quick ? 1 : 3),
            Folder = Environment.GetEnvironmentVariable("BENCH_FOLDER") ?? "/dev/shm",
            Filter = filter ?? "",
            Document = quick || filter is not null ? null : Environment.GetEnvironmentVariable("BENCH_DOCUMENT"),
        };
    }

    private static int Number(string variable, int otherwise) =>
        int.TryParse(Environment.GetEnvironmentVariable(variable), NumberStyles.None, CultureInfo.InvariantCulture, out int value) && value > 0
            ? value
            : otherwise;
}
