using System.Globalization;

namespace BlockMount.Bench.Results;

/// <summary>A figure held against a bound.</summary>
/// <param name="Limit">Inclusive.</param>
/// <param name="AtMost">The figure may be at most the limit; otherwise it has to reach it.</param>
internal readonly record struct Bound(double Limit, bool AtMost)
{
    /// <summary>Decided by the figure as the tables print it, with two decimals, so that a reader comes to the same verdict.</summary>
    public bool Holds(double figure) => AtMost ? Math.Round(figure, 2) <= Limit : Math.Round(figure, 2) >= Limit;

    /// <summary>"&gt;= 2.5x holds" or "&lt;= 200 MISSES".</summary>
    /// <param name="figure">Null when it was not measured.</param>
    /// <param name="unit">Follows the limit.</param>
    public string Verdict(double? figure, string unit)
    {
        string verdict = figure is not { } measured ? "not measured" : Holds(measured) ? "holds" : "**MISSES**";
        return string.Create(CultureInfo.InvariantCulture, $"{(AtMost ? "<=" : ">=")} {Limit:0.##}{unit} {verdict}");
    }
}
