using System.Globalization;
using System.Text;
using BlockMount.TestSupport;

namespace BlockMount.Bench;

/// <summary>Prints rows as they come and writes docs/benchmarks.md.</summary>
internal sealed class Report(BenchSettings settings)
{
    // Before our own load begins: a busy machine explains odd figures.
    private readonly string _load = File.ReadAllText("/proc/loadavg").Split(' ')[0];

    private readonly StringBuilder _comparison = new();
    private readonly StringBuilder _limits = new();

    /// <summary>True while every floor holds.</summary>
    public bool AllHold { get; private set; } = true;

    /// <summary>Adds a row of the comparison.</summary>
    public void Add(Row row)
    {
        string unit = row.Workload.Metric switch
        {
            Metric.Iops => "IOPS",
            Metric.Bandwidth => "MB/s",
            Metric.P99 => "µs",
            _ => "µs CPU",
        };
        string floor = $"{(row.Workload.LessIsBetter ? "<= " : ">= ")}{row.Workload.Floor.ToString("0.0#", CultureInfo.InvariantCulture)}x";
        string ours = Figure(row.Ours);
        string theirs = Figure(row.Theirs);
        string ratio = $"{row.Ratio.ToString("0.00", CultureInfo.InvariantCulture)}x";
        Console.WriteLine($"{row.Workload.Name,-42} {ours,10} {theirs,10} {unit,-7} {ratio,7}  floor {floor,-8} {row.Verdict}");
        _comparison.Append(CultureInfo.InvariantCulture, $"| {row.Workload.Name} | {ours} | {theirs} | {unit} | {ratio} | {floor} | {row.Verdict} |\n");
        AllHold &= row.Verdict == "holds";
    }

    /// <summary>Adds a figure with a limit.</summary>
    public void Add(string name, double value, string unit, double limit)
    {
        string verdict = value <= limit ? "holds" : "MISSES";
        Console.WriteLine($"{name,-64} {Figure(value),10} {unit,-4} limit {limit,-6} {verdict}");
        _limits.Append(CultureInfo.InvariantCulture, $"| {name} | {Figure(value)} | {unit} | {limit} | {verdict} |\n");
        AllHold &= verdict == "holds";
    }

    /// <summary>The document with the machine, both tables and how to repeat it.</summary>
    public async Task<string> DocumentAsync()
    {
        string qemu = await FirstLineAsync("qemu-storage-daemon", "--version");
        string fio = await FirstLineAsync("fio", "--version");
        string kernel = await FirstLineAsync("uname", "-sr");
        string processor = File.ReadLines("/proc/cpuinfo").FirstOrDefault(line => line.StartsWith("model name", StringComparison.Ordinal))?.Split(':')[1].Trim() ?? "?";
        return $"""
            # Benchmarks

            Written by `make bench`; figures differ from machine to machine, the ratios within one run are what counts.

            - Machine: {Environment.ProcessorCount} processors ({processor}), {kernel}, load average {_load} at the start
            - Against: {qemu}; load by {fio}
            - {settings.Pairs} interleaved pairs of {settings.Seconds} s each, medians; the same 1 GiB qcow2 image, every cluster allocated, in
              {settings.Folder} (storage costs nothing); direct I/O with libaio on the mounted file, fio's nbd engine on a Unix socket
            - Allocating writes: a fresh, empty overlay on that image for each run
            - CPU: user and system time of the serving process, per request

            | workload | BlockMount | QEMU | unit | ratio | floor | verdict |
            |---|---:|---:|---|---:|---|---|
            {_comparison.ToString().TrimEnd()}

            | figure | value | unit | limit | verdict |
            |---|---:|---|---:|---|
            {_limits.ToString().TrimEnd()}

            """;
    }

    private static string Figure(double value) => value >= 100
        ? value.ToString("#,##0", CultureInfo.InvariantCulture)
        : value.ToString("0.0", CultureInfo.InvariantCulture);

    private static async Task<string> FirstLineAsync(string tool, params string[] arguments) =>
        (await ToolProcess.RunAsync(tool, arguments)).MustSucceed().Output.Split('\n')[0];
}
