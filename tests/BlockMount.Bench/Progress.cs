using System.Diagnostics;
using System.Globalization;
using BlockMount.Bench.Documents;
using BlockMount.Bench.Loads;
using BlockMount.Bench.Results;

namespace BlockMount.Bench;

/// <summary>What the terminal shows while the harness works: results as they come, the time gone, the time left.</summary>
internal sealed class Progress
{
    private const int NameWidth = 68;

    // Fixed at construction.
    private readonly Stopwatch _watch = Stopwatch.StartNew();
    private readonly double _seconds;
    private readonly Contender[] _servers;

    // Of the estimate; only the session's one thread comes here.
    private double _done;

    /// <param name="seconds">Estimate of the whole.</param>
    /// <param name="newerQemu">Whether it takes part.</param>
    public Progress(double seconds, bool newerQemu)
    {
        _seconds = seconds;
        _servers = newerQemu ? [Contender.BlockMount, Contender.Qemu, Contender.NewerQemu] : [Contender.BlockMount, Contender.Qemu];
    }

    /// <summary>A part begins.</summary>
    public void Begin(string what) => Console.WriteLine($"[{Time(_watch.Elapsed.TotalSeconds)}, {Time(Left())} left] {what}");

    /// <summary>A part has ended that was estimated at so many seconds.</summary>
    public void Done(double estimate) => _done += estimate;

    /// <summary>The heads of the table. The peer is the native file, or nbdkit.</summary>
    public void Head() => Print("", [.. _servers.Select(Names.Of), "peer"], "unit", "ratio", "spread", "floor, goal");

    /// <summary>A row of the comparison.</summary>
    public void Show(Workload row, Measurements measurements)
    {
        Ratio? ratio = measurements.Compare(row);
        Contender peer = row.Load.Access == Access.Nbd ? Contender.Nbdkit : Contender.NativeFile;
        Print(
            row.Name,
            [.. _servers.Append(peer).Select(contender => Names.Figure(measurements.Median(row.Load, contender, row.Metric)))],
            row.Metric.Unit(),
            Names.Times(ratio?.Value),
            ratio is { } value ? $"{Names.Times(value.Least)}-{Names.Times(value.Most)}" : "",
            Verdicts(row.Floor, row.Goal, row.Metric.LessIsBetter(), ratio?.Value, "x"));
    }

    /// <summary>A load without a row of its own.</summary>
    public void Show(Load load, Measurements measurements) =>
        Print(load.Name, [.. _servers.Select(contender => Names.Figure(measurements.Median(load, contender, Metric.Iops))), ""], Metric.Iops.Unit());

    /// <summary>A figure with a limit.</summary>
    public void Show(LimitFigure figure) => Print(
        figure.Name,
        [.. _servers.Select(contender => Names.Figure(figure.Of(contender), figure.Unit)), ""],
        figure.Unit,
        verdicts: Verdicts(figure.Floor, figure.Goal, atMost: true, figure.Ours, ""));

    private static void Print(string name, string[] figures, string unit, string ratio = "", string spread = "", string verdicts = "") =>
        Console.WriteLine(
            $"  {name.PadRight(NameWidth)} {string.Join(' ', figures.Select(figure => figure.PadLeft(10)))} {unit,-7} {ratio,7} {spread,-15} {verdicts}".TrimEnd());

    private static string Verdicts(double? floor, double? goal, bool atMost, double? figure, string unit) =>
        string.Join(", ", new[] { floor, goal }.OfType<double>().Select(limit => new Bound(limit, atMost).Verdict(figure, unit))).Replace("**", "", StringComparison.Ordinal);

    // Scaled by how the estimates so far have turned out.
    private double Left() => _done > 0 ? Math.Max(0, _seconds - _done) * (_watch.Elapsed.TotalSeconds / _done) : _seconds;

    private static string Time(double total) => string.Create(CultureInfo.InvariantCulture, $"{(int)total / 60}:{(int)total % 60:00}");
}
