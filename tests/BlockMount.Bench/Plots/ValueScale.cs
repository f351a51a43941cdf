using System.Globalization;

namespace BlockMount.Bench.Plots;

/// <summary>Maps values to 0 (bottom of a chart) .. 1 (its top), with round numbers for the grid.</summary>
internal sealed class ValueScale
{
    private const int LinesWanted = 5;

    private readonly double _bottom;
    private readonly double _top;
    private readonly bool _logarithmic;

    private ValueScale(double bottom, double top, bool logarithmic, IReadOnlyList<double> ticks)
    {
        _bottom = bottom;
        _top = top;
        _logarithmic = logarithmic;
        Ticks = ticks;
    }

    /// <summary>Where grid lines are, from bottom to top.</summary>
    public IReadOnlyList<double> Ticks { get; }

    /// <summary>From 0 to a round number that is not below <paramref name="largest"/>.</summary>
    public static ValueScale Linear(double largest)
    {
        double most = largest > 0 ? largest : 1;
        double power = Math.Pow(10, Math.Floor(Math.Log10(most / LinesWanted)));
        double step = new[] { 1, 2, 2.5, 5, 10 }.Select(factor => factor * power).First(size => size * LinesWanted >= most * 0.999999);
        int count = (int)Math.Ceiling((most / step) - 0.000001);
        return new ValueScale(0, count * step, false, [.. Enumerable.Range(0, count + 1).Select(i => i * step)]);
    }

    /// <summary>Whole powers of ten around values, all of which are above 0.</summary>
    public static ValueScale Logarithmic(double smallest, double largest)
    {
        int first = (int)Math.Floor(Math.Log10(smallest));
        int last = Math.Max(first + 1, (int)Math.Ceiling(Math.Log10(largest)));
        return new ValueScale(
            first, last, true, [.. Enumerable.Range(first, last - first + 1).Select(exponent => Math.Pow(10, exponent))]);
    }

    /// <summary>The place of a value; outside 0 .. 1 for one outside the scale.</summary>
    public double Place(double value) => ((_logarithmic ? Math.Log10(value) : value) - _bottom) / (_top - _bottom);

    /// <summary>A number as it stands on an axis: 1,200 or 0.5.</summary>
    public static string Label(double value) => value.ToString(value >= 100 ? "#,##0" : "0.##", CultureInfo.InvariantCulture);
}
