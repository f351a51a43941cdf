using System.Globalization;
using BlockMount.Bench.Loads;
using BlockMount.Bench.Plots;
using BlockMount.Bench.Results;

namespace BlockMount.Bench.Documents;

/// <summary>
/// Writes docs/benchmarks.md, and the plots into the folder `bench` beside it. The document is replaced as a whole; what a person has to say
/// stands in bench/remarks.md, which is only read, and goes in at the end.
/// </summary>
internal sealed class BenchDocument(BenchSettings settings, MachineDescription machine, string folderRemark)
{
    private const string Folder = "bench";
    private const string RemarksFile = "remarks.md";

    /// <summary>Writes the document and its plots.</summary>
    /// <param name="path">Of the document; its folder exists.</param>
    /// <param name="ringCount">io_uring descriptors of BlockMount's daemon under load; null when it was not looked at.</param>
    public async Task WriteAsync(string path, BenchRun run, int? ringCount)
    {
        string plots = Directory.CreateDirectory(Path.Combine(Path.GetDirectoryName(path)!, Folder)).FullName;
        foreach ((string file, LineChart chart) in Charts.All(run))
        {
            await File.WriteAllTextAsync(Path.Combine(plots, file), chart.Draw());
        }

        string remarks = Path.Combine(plots, RemarksFile);
        await File.WriteAllTextAsync(path, Text(run, ringCount, File.Exists(remarks) ? await File.ReadAllTextAsync(remarks) : null));
    }

    /// <summary>The document.</summary>
    /// <param name="remarks">Goes in at the end as it is; null for none.</param>
    public string Text(BenchRun run, int? ringCount, string? remarks)
    {
        (string _, LineChart depth) = Charts.All(run).First();
        return $"""
            # Benchmarks

            Written by `make bench`; figures differ from machine to machine, the ratios within one run are what counts.

            {Header(ringCount)}

            {run.FloorsMissed} of the floors and {run.GoalsMissed} of the goals are missed. The ratio is that of the medians, its verdict goes by the two decimals
            shown; the spread is from the smallest to the largest ratio of two runs of the same round. Where less is better, floor and goal are upper bounds.

            {NotMeasured(run)}## Through the mount (FUSE)

            {ResultTables.Rows(run, Access.Fuse)}
            ## Over NBD

            {ResultTables.Rows(run, Access.Nbd)}
            ## Starting, opening, memory

            {ResultTables.Limits(run)}
            From exec to a mount that answers a read; for QEMU to an export that does. The goal for the chain of 256 is about opening alone, the figure
            includes the start of the program.

            ## By depth of the chain

            ![{depth.Title}](bench/chain-depth.svg)

            {ResultTables.Sweep(run, "images", Charts.ByDepth, [Metric.Iops, Metric.P99, Metric.CpuPerRequest])}
            ## Latency

            ![Latency through the mount](bench/latency-fuse.svg)

            ![Latency over NBD](bench/latency-nbd.svg)

            ## By queue depth

            ![Cost by queue depth](bench/queue-depth-cpu.svg)

            ![Throughput by queue depth](bench/queue-depth-iops.svg)

            {ResultTables.Sweep(run, "in flight", Charts.ByQueueDepth, [Metric.Iops, Metric.CpuPerRequest, Metric.P99])}
            ## All figures

            {ResultTables.Details(run)}
            {Remarks(remarks)}
            """.TrimEnd() + "\n";
    }

    private string Header(int? ringCount)
    {
        string newer = machine.Newer is { } version ? $"\n- Newer QEMU: {version}, its storage daemon for files and for NBD" : "";
        return string.Create(CultureInfo.InvariantCulture, $"""
            - Machine: {machine.Machine}
            - Against: {machine.Debian}; {machine.Tools}{newer}
            - BlockMount: {Options()}; {Rings(ringCount)}; fuse.enable_uring: {machine.Uring}
            - {settings.Rounds} interleaved rounds, medians; {settings.Seconds} s measured per run, after {settings.SettleSeconds} s of the same load at queue depth 1 and {Math.Min(0.8, settings.SettleSeconds)} s
              at others. Loads that have no goal get half the rounds
            - The same 1 GiB qcow2 image, every cluster allocated, for BlockMount and QEMU; the same bytes as a raw file for nbdkit and as the native file
            - Images in {folderRemark}; direct I/O with libaio on files, fio's nbd engine on a Unix socket
            - Allocating writes: a fresh server on a fresh, empty overlay on that image for each run (an empty raw file for the native file), all of the run
              measured: 512 MiB sequentially in requests of 64 KiB, 4 in flight; 16,384 random requests of 4 KiB, 16 in flight
            - Chains: the full image below, each image above with 32 clusters of its own
            - CPU: user and system time of the serving process, per request
            """);
    }

    private string Options()
    {
        string mount = settings.MountOptions.Length > 0 ? $"mounted with `-o {settings.MountOptions}`" : "mounted with its defaults";
        return settings.NbdOptions.Length > 0 ? $"{mount}, NBD served with `-o {settings.NbdOptions}`" : mount;
    }

    // The daemon's own word is not needed: a transport over io_uring cannot do without a ring.
    private static string Rings(int? count) => count switch
    {
        null => "io_uring descriptors under load: not looked at",
        0 => "no io_uring descriptor open under load, so the transport was /dev/fuse",
        _ => $"{count} io_uring descriptors open under load",
    };

    private static string NotMeasured(BenchRun run)
    {
        string lines = string.Concat(run.Failures.All.Select(failure => $"- {failure.What}, {Names.Of(failure.Contender)}: {failure.Reason}\n"));
        return lines.Length == 0 ? "" : $"Could not be measured:\n\n{lines}\n";
    }

    private static string Remarks(string? remarks) => remarks is null ? "" : $"""
        ## Remarks

        {remarks.Trim()}
        """;
}
