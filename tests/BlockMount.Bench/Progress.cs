using System.Diagnostics;
using System.Globalization;
using BlockMount.Bench.Documents;
using BlockMount.Bench.Loads;
using BlockMount.Bench.Results;

namespace BlockMount.Bench;

/// <summary>What the terminal shows while the harness works: results as they come, the time gone, the time left.</summary>
/// <param name="seconds">Estimate of the whole.</param>
internal sealed class Progress(double seconds)
{
    private readonly Stopwatch _watch = Stopwatch.StartNew();
    private double _done;

    /// <summary>A part begins.</summary>
    public void Begin(string what) => Console.WriteLine($"[{Time(_watch.Elapsed.TotalSeconds)}, {Time(Left())} left] {what}");

    /// <summary>A part has ended that was estimated at so many seconds.</summary>
    public void Done(double estimate) => _done += estimate;

    /// <summary>The heads of the table.</summary>
    public static void Head() =>
        Console.WriteLine($"  {"",-56} {"BlockMount",10} {"QEMU",10} {"peer",10} {"unit",-7} {"ratio",8} {"spread",-16} floor, goal");

    /// <summary>A row of the comparison.</summary>
    public static void Show(Workload row, Measurements measurements)
    {
        Ratio? ratio = measurements.Compare(row);
        Contender peer = row.Load.Access == Access.Nbd ? Contender.Nbdkit : Contender.NativeFile;
        string[] figures = [.. new[] { Contender.BlockMount, Contender.Qemu, peer }.Select(contender => Names.Figure(measurements.Median(row.Load, contender, row.Metric)))];
        string spread = ratio is { } value ? $"{Names.Times(value.Least)}-{Names.Times(value.Most)}" : "";
        string verdicts = string.Join(", ", new[] { row.Floor, row.Goal }.OfType<double>().Select(bound => new Bound(bound, row.Metric.LessIsBetter()).Verdict(ratio?.Value, "x")));
        Console.WriteLine($"  {row.Name,-56} {figures[0],10} {figures[1],10} {figures[2],10} {row.Metric.Unit(),-7} {Names.Times(ratio?.Value),8} {spread,-16} {verdicts}");
    }

    /// <summary>A load without a row of its own.</summary>
    public static void Show(Load load, Measurements measurements)
    {
        string[] figures = [.. new[] { Contender.BlockMount, Contender.Qemu }.Select(contender => Names.Figure(measurements.Median(load, contender, Metric.Iops)))];
        Console.WriteLine($"  {load.Name,-56} {figures[0],10} {figures[1],10} {"",10} {Metric.Iops.Unit(),-7}");
    }

    /// <summary>A figure with a limit.</summary>
    public static void Show(LimitFigure figure)
    {
        string verdicts = string.Join(", ", new[] { figure.Floor, figure.Goal }.OfType<double>().Select(limit => new Bound(limit, AtMost: true).Verdict(figure.Ours, "")));
        string qemu = Names.Figure(figure.Of(Contender.Qemu), figure.Unit);
        Console.WriteLine($"  {figure.Name,-56} {Names.Figure(figure.Ours, figure.Unit),10} {qemu,10} {"",10} {figure.Unit,-7} {"",8} {"",-16} {verdicts}");
    }

    // Scaled by how the estimates so far have turned out.
    private double Left() => _done > 0 ? Math.Max(0, seconds - _done) * (_watch.Elapsed.TotalSeconds / _done) : seconds;

    private static string Time(double total) => string.Create(CultureInfo.InvariantCulture, $"{(int)total / 60}:{(int)total % 60:00}");
}
