using BlockMount.Bench.Loads;

namespace BlockMount.Bench.Results;

/// <summary>Milliseconds from exec to an answer, by disk and contender.</summary>
internal sealed class Opening
{
    private readonly Dictionary<(int Disk, Contender Contender), List<double>> _times = [];

    /// <summary>Keeps the time of the next round.</summary>
    public void Add(int disk, Contender contender, double milliseconds)
    {
        if (!_times.TryGetValue((disk, contender), out List<double>? times))
        {
            _times.Add((disk, contender), times = []);
        }

        times.Add(milliseconds);
    }

    /// <summary>The medians of a disk.</summary>
    public Dictionary<Contender, double> Medians(int disk) =>
        _times.Where(times => times.Key.Disk == disk).ToDictionary(times => times.Key.Contender, times => Statistics.Median(times.Value)!.Value);
}
