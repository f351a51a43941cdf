using System.Globalization;
using BlockMount.Bench.Loads;

namespace BlockMount.Bench;

/// <summary>What is measured, how long and how often: the command line and the BENCH_ variables. Fixed once read.</summary>
internal sealed record BenchSettings
{
    /// <summary>A look in under two minutes instead of figures worth keeping.</summary>
    public required bool Quick { get; init; }

    /// <summary>Rounds: runs of each contender per load, of which the median counts (BENCH_PAIRS).</summary>
    public required int Rounds { get; init; }

    /// <summary>Measured seconds of a run (BENCH_SECONDS).</summary>
    public required double Seconds { get; init; }

    /// <summary>
    /// Seconds of load before the measured ones at queue depth 1 (BENCH_SETTLE). There figures depend on which processors the threads run on,
    /// and the scheduler takes a second or two to spread them; see docs/bench/remarks.md.
    /// </summary>
    public required double SettleSeconds { get; init; }

    /// <summary>Only rows whose name contains one of these; all when empty.</summary>
    public IReadOnlyList<string> Filters { get; init; } = [];

    /// <summary>Where images lie, or null to choose (BENCH_FOLDER).</summary>
    public string? Folder { get; init; }

    /// <summary>For BlockMount's -o, on mounts (BENCH_MOUNT_OPTIONS).</summary>
    public string MountOptions { get; init; } = "";

    /// <summary>For BlockMount's -o, when it serves NBD (BENCH_NBD_OPTIONS).</summary>
    public string NbdOptions { get; init; } = "";

    /// <summary>A newer qemu-storage-daemon to compare with (QEMU_STORAGE_DAEMON2), or null.</summary>
    public string? NewerQemu { get; init; }

    /// <summary>The document to write (BENCH_DOCUMENT); null for partial or quick runs, which must not replace real ones.</summary>
    public string? Document { get; init; }

    /// <summary>How long a run of a load is.</summary>
    public RunLength Length(Load load, Contender contender)
    {
        // Nothing wakes anybody there, and nothing is compiled: short runs are as good.
        if (contender == Contender.NativeFile)
        {
            return new RunLength(Math.Min(0.2, SettleSeconds), Seconds / 2);
        }

        return load.Job.Depth == 1 ? new RunLength(SettleSeconds, Seconds) : new RunLength(Math.Min(0.8, SettleSeconds), Seconds);
    }

    /// <summary>Whether a row or figure is asked for.</summary>
    public bool Wants(string name) => Filters.Count == 0 || Filters.Any(filter => name.Contains(filter, StringComparison.OrdinalIgnoreCase));

    /// <param name="arguments">--quick, and parts of names.</param>
    /// <param name="variable">Value of an environment variable, or null.</param>
    /// <exception cref="FormatException">An option or a number that makes no sense.</exception>
    public static BenchSettings Read(string[] arguments, Func<string, string?> variable)
    {
        if (arguments.FirstOrDefault(argument => argument.StartsWith('-') && argument != "--quick") is { } unknown)
        {
            throw new FormatException($"unknown option '{unknown}'; there is --quick, and parts of workloads' names");
        }

        bool quick = arguments.Contains("--quick");
        string[] filters = [.. arguments.Where(argument => argument != "--quick" && argument.Length > 0)];
        return new BenchSettings
        {
            Quick = quick,
            Filters = filters,
            Rounds = (int)Number(variable, "BENCH_PAIRS", quick ? 2 : 5, whole: true),
            Seconds = Number(variable, "BENCH_SECONDS", quick ? 0.8 : 2.5),
            SettleSeconds = Number(variable, "BENCH_SETTLE", quick ? 1 : 2),
            Folder = Text(variable, "BENCH_FOLDER"),
            MountOptions = Text(variable, "BENCH_MOUNT_OPTIONS") ?? "",
            NbdOptions = Text(variable, "BENCH_NBD_OPTIONS") ?? "",
            NewerQemu = Text(variable, "QEMU_STORAGE_DAEMON2"),
            Document = quick || filters.Length > 0 ? null : Text(variable, "BENCH_DOCUMENT"),
        };
    }

    private static string? Text(Func<string, string?> variable, string name) => variable(name) is { Length: > 0 } value ? value : null;

    private static double Number(Func<string, string?> variable, string name, double otherwise, bool whole = false)
    {
        if (Text(variable, name) is not { } text)
        {
            return otherwise;
        }

        NumberStyles styles = whole ? NumberStyles.None : NumberStyles.AllowDecimalPoint;
        return double.TryParse(text, styles, CultureInfo.InvariantCulture, out double value) && value > 0
            ? value
            : throw new FormatException($"{name} is '{text}', and must be a {(whole ? "whole " : "")}number above 0");
    }
}
