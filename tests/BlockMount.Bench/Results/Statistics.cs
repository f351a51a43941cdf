namespace BlockMount.Bench.Results;

/// <summary>Medians, and the ratio of two series of runs.</summary>
internal static class Statistics
{
    /// <summary>The middle value, or the mean of the two in the middle; null of nothing.</summary>
    public static double? Median(IReadOnlyCollection<double> values)
    {
        if (values.Count == 0)
        {
            return null;
        }

        double[] sorted = [.. values.Order()];
        int middle = sorted.Length / 2;
        return sorted.Length % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
    }

    /// <summary>Ratio of the medians, and how far the ratios of runs of the same round lie apart; null when a side has no figures.</summary>
    public static Ratio? Compare(IReadOnlyList<double> ours, IReadOnlyList<double> theirs)
    {
        if (Median(ours) is not { } numerator || Median(theirs) is not { } denominator || denominator == 0 || theirs.Any(value => value == 0))
        {
            return null;
        }

        double[] pairs = [.. ours.Zip(theirs, (own, other) => own / other)];
        return new Ratio(numerator / denominator, pairs.Min(), pairs.Max());
    }
}

/// <summary>A ratio of medians with the smallest and largest ratio among the pairs of runs.</summary>
internal readonly record struct Ratio(double Value, double Least, double Most);
