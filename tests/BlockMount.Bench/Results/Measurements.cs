using BlockMount.Bench.Loads;

namespace BlockMount.Bench.Results;

/// <summary>Owns every sample of a run of the harness: by load and contender, in the order of rounds.</summary>
internal sealed class Measurements
{
    private readonly Dictionary<(Load Load, Contender Contender), List<Sample>> _samples = [];

    /// <summary>Loads in the order in which they were first measured.</summary>
    public IEnumerable<Load> Loads => _samples.Keys.Select(key => key.Load).Distinct();

    /// <summary>Keeps the sample of the next round.</summary>
    public void Add(Load load, Contender contender, Sample sample)
    {
        if (!_samples.TryGetValue((load, contender), out List<Sample>? samples))
        {
            _samples.Add((load, contender), samples = []);
        }

        samples.Add(sample);
    }

    /// <summary>Rounds done.</summary>
    public int Rounds(Load load, Contender contender) => _samples.TryGetValue((load, contender), out List<Sample>? samples) ? samples.Count : 0;

    /// <summary>The figures, in the order of rounds; empty when the contender has none.</summary>
    public IReadOnlyList<double> Values(Load load, Contender contender, Metric metric) => _samples.TryGetValue((load, contender), out List<Sample>? samples)
        ? [.. samples.Select(sample => sample.Value(metric)).OfType<double>()]
        : [];

    /// <summary>Median, or null.</summary>
    public double? Median(Load load, Contender contender, Metric metric) => Statistics.Median(Values(load, contender, metric));

    /// <summary>The ratio that a row is about, or null when a side was not measured.</summary>
    public Ratio? Compare(Workload row) => Statistics.Compare(
        Values(row.Load, Contender.BlockMount, row.Metric),
        row.OwnBaseline is { } own ? Values(own, Contender.BlockMount, row.Metric) : Values(row.Load, row.Against, row.Metric));
}
