using BlockMount.Bench.Loads;
using BlockMount.Bench.Results;

namespace BlockMount.Bench.Documents;

/// <summary>The tables of the document, from the results.</summary>
internal static class ResultTables
{
    /// <summary>Rows with a ratio: the medians of all, the ratio, its spread, floor and goal with a verdict each.</summary>
    public static string Rows(BenchRun run, Access access)
    {
        Contender[] columns = [.. run.Contenders.Where(contender => contender != (access == Access.Nbd ? Contender.NativeFile : Contender.Nbdkit))];
        MarkdownTable table = new(["workload", .. columns.Select(contender => Names.Of(contender) + ':'), "unit", "ratio:", "to", "spread", "floor", "goal"]);
        foreach (Workload row in run.Rows.Where(row => row.Load.Access == access))
        {
            Ratio? ratio = run.Measurements.Compare(row);
            table.Add(
            [
                row.Name, .. columns.Select(contender => Names.Figure(run.Measurements.Median(row.Load, contender, row.Metric))), row.Metric.Unit(),
                Names.Times(ratio?.Value), Names.Reference(row), Spread(ratio), Verdict(row.Floor, row, ratio), Verdict(row.Goal, row, ratio),
            ]);
        }

        return table.ToString();
    }

    /// <summary>Figures with a limit of their own.</summary>
    public static string Limits(BenchRun run)
    {
        Contender[] columns = [.. run.Contenders.Where(contender => run.Limits.Any(figure => figure.Of(contender) is not null))];
        MarkdownTable table = new(["figure", .. columns.Select(contender => Names.Of(contender) + ':'), "unit", "floor", "goal"]);
        foreach (LimitFigure figure in run.Limits)
        {
            table.Add(
            [
                figure.Name, .. columns.Select(contender => Names.Figure(figure.Of(contender), figure.Unit)), figure.Unit, Verdict(figure.Floor, figure),
                Verdict(figure.Goal, figure),
            ]);
        }

        return table.ToString();
    }

    /// <summary>Everything that was measured: throughput, latency and CPU of each contender under each load.</summary>
    public static string Details(BenchRun run)
    {
        Metric[] metrics = [Metric.Iops, Metric.Bandwidth, Metric.P50, Metric.P99, Metric.P999, Metric.CpuPerRequest];
        MarkdownTable table = new(["load", "served by", .. metrics.Select(metric => Names.Of(metric) + ':')]);
        foreach (Load load in run.Measurements.Loads)
        {
            foreach (Contender contender in run.Contenders.Where(contender => run.Measurements.Rounds(load, contender) > 0))
            {
                table.Add([load.Name, Names.Of(contender), .. metrics.Select(metric => Names.Figure(run.Measurements.Median(load, contender, metric)))]);
            }
        }

        return table.ToString();
    }

    /// <summary>Metrics of several loads, by server of qcow2; one that could do none of them is left out.</summary>
    public static string Sweep(BenchRun run, string head, IReadOnlyList<(string Place, Load Load)> places, IReadOnlyList<Metric> metrics)
    {
        (Contender Contender, Metric Metric)[] columns =
        [
            .. metrics.SelectMany(metric => run.Contenders.Where(contender => contender.ServesQcow2()).Select(contender => (contender, metric)))
                .Where(column => places.Any(place => run.Measurements.Median(place.Load, column.contender, column.metric) is not null)),
        ];
        MarkdownTable table = new([head + ':', .. columns.Select(column => $"{Names.Of(column.Contender)}, {Names.Of(column.Metric)}:")]);
        foreach ((string place, Load load) in places)
        {
            table.Add([place, .. columns.Select(column => Names.Figure(run.Measurements.Median(load, column.Contender, column.Metric)))]);
        }

        return table.ToString();
    }

    private static string Spread(Ratio? ratio) => ratio is { } value ? $"{Names.Times(value.Least)} - {Names.Times(value.Most)}" : "-";

    private static string Verdict(double? bound, Workload row, Ratio? ratio) =>
        bound is { } limit ? new Bound(limit, row.Metric.LessIsBetter()).Verdict(ratio?.Value, "x") : "";

    private static string Verdict(double? limit, LimitFigure figure) =>
        limit is { } most ? new Bound(most, AtMost: true).Verdict(figure.Ours, figure.Unit == "x" ? "x" : $" {figure.Unit}") : "";
}
