using System.Globalization;
using BlockMount.Bench.Loads;
using BlockMount.Bench.Plots;
using BlockMount.Bench.Results;

namespace BlockMount.Bench.Documents;

/// <summary>The plots of the document, from the results.</summary>
internal static class Charts
{
    /// <summary>Loads by depth of the chain, with the names of their places.</summary>
    public static IReadOnlyList<(string Place, Load Load)> ByDepth { get; } =
        [.. WorkloadTable.ChainDepths.Select(depth => (Text(depth), WorkloadTable.Chain(depth)))];

    /// <summary>Loads by requests in flight, with the names of their places.</summary>
    public static IReadOnlyList<(string Place, Load Load)> ByQueueDepth { get; } =
        [.. WorkloadTable.QueueDepths.Select(depth => (Text(depth), WorkloadTable.RandomReadAt(depth)))];

    /// <summary>File names and charts, in the order of the document.</summary>
    public static IEnumerable<(string File, LineChart Chart)> All(BenchRun run)
    {
        yield return ("chain-depth.svg", Over(
            run, ByDepth, Metric.Iops, "Random 4 KiB reads through the mount, queue depth 1", "images in the chain", "requests per second"));
        yield return ("latency-fuse.svg", Latency(run, WorkloadTable.RandomRead, "Latency of random 4 KiB reads through the mount, queue depth 1"));
        yield return ("latency-nbd.svg", Latency(run, WorkloadTable.NbdRandomRead, "Latency of random 4 KiB reads over NBD, queue depth 1"));
        yield return ("queue-depth-cpu.svg", Over(
            run, ByQueueDepth, Metric.CpuPerRequest, "Cost of random 4 KiB reads through the mount", "requests in flight", "CPU of the server per request, µs"));
        yield return ("queue-depth-iops.svg", Over(
            run, ByQueueDepth, Metric.Iops, "Throughput of random 4 KiB reads through the mount", "requests in flight", "requests per second"));
    }

    private static LineChart Over(
        BenchRun run, IReadOnlyList<(string Place, Load Load)> places, Metric metric, string title, string xAxis, string yAxis)
    {
        return new LineChart(title, xAxis, yAxis, [.. places.Select(place => place.Place)], SeriesOf(
            run.Contenders.Where(contender => contender.ServesQcow2()), contender => [.. places.Select(place => run.Measurements.Median(place.Load, contender, metric))]));
    }

    private static LineChart Latency(BenchRun run, Load load, string title)
    {
        Metric[] percentiles = [Metric.P50, Metric.P99, Metric.P999];
        return new LineChart(title, "percentile of requests", "completion latency, µs", ["50 %", "99 %", "99.9 %"], SeriesOf(
            run.Contenders, contender => [.. percentiles.Select(metric => run.Measurements.Median(load, contender, metric))]), Logarithmic: true);
    }

    private static Series[] SeriesOf(IEnumerable<Contender> contenders, Func<Contender, double?[]> values) =>
        [.. contenders.Select(contender => new Series(Names.Of(contender), values(contender))).Where(series => series.Values.Any(value => value is not null))];

    private static string Text(int depth) => depth.ToString(CultureInfo.InvariantCulture);
}
