namespace BlockMount.Bench.Plots;

/// <summary>A line of a chart. A value that is missing leaves a gap at its place on the x axis.</summary>
internal sealed record Series(string Name, IReadOnlyList<double?> Values);

/// <summary>A chart of a few lines over named, evenly spaced places.</summary>
/// <param name="Title">What is shown.</param>
/// <param name="XAxis">What the places are, with their unit.</param>
/// <param name="YAxis">What the values are, with their unit.</param>
/// <param name="Places">Names of the places, from left to right.</param>
/// <param name="Series">At most <see cref="SvgDocument.SeriesCount"/>.</param>
/// <param name="Logarithmic">Powers of ten on the y axis, for values that span several; they must be above 0.</param>
internal sealed record LineChart(
    string Title, string XAxis, string YAxis, IReadOnlyList<string> Places, IReadOnlyList<Series> Series, bool Logarithmic = false)
{
    private const double Width = 720;
    private const double Height = 400;
    private const double Left = 84;
    private const double Right = 20;
    private const double Top = 66;
    private const double Bottom = 56;

    /// <summary>The chart as an SVG document.</summary>
    public string Draw()
    {
        SvgDocument svg = new(Width, Height, Title);
        svg.Text(Left, 24, Title, style: "title");
        double[] values = [.. Series.SelectMany(series => series.Values).OfType<double>()];
        ValueScale scale = Logarithmic && values.Length > 0
            ? ValueScale.Logarithmic(values.Min(), values.Max())
            : ValueScale.Linear(values.DefaultIfEmpty(1).Max());
        DrawAxes(svg, scale);
        for (int index = 0; index < Series.Count; index++)
        {
            DrawSeries(svg, scale, index);
        }

        DrawLegend(svg);
        return svg.Finish();
    }

    private void DrawAxes(SvgDocument svg, ValueScale scale)
    {
        foreach (double tick in scale.Ticks)
        {
            double y = Y(scale, tick);
            svg.Line(Left, y, Width - Right, y, "grid");
            svg.Text(Left - 8, y + 4, ValueScale.Label(tick), "end");
        }

        svg.Line(Left, Top, Left, Height - Bottom, "axis");
        svg.Line(Left, Height - Bottom, Width - Right, Height - Bottom, "axis");
        for (int place = 0; place < Places.Count; place++)
        {
            svg.Line(X(place), Height - Bottom, X(place), Height - Bottom + 4, "axis");
            svg.Text(X(place), Height - Bottom + 18, Places[place], "middle");
        }

        svg.Text((Left + Width - Right) / 2, Height - 14, XAxis, "middle");
        svg.Text(18, (Top + Height - Bottom) / 2, YAxis, "middle", turned: -90);
    }

    private void DrawSeries(SvgDocument svg, ValueScale scale, int index)
    {
        Series series = Series[index];
        List<(double X, double Y)> stretch = [];
        for (int place = 0; place <= series.Values.Count; place++)
        {
            if (place < series.Values.Count && series.Values[place] is { } value)
            {
                stretch.Add((X(place), Y(scale, value)));
                continue;
            }

            // A gap, or the end.
            if (stretch.Count > 1)
            {
                svg.Polyline(stretch, index);
            }

            stretch.Clear();
        }

        for (int place = 0; place < series.Values.Count; place++)
        {
            if (series.Values[place] is { } value)
            {
                svg.Marker(X(place), Y(scale, value), index, $"{series.Name}, {Places[place]}: {ValueScale.Label(value)}");
            }
        }
    }

    private void DrawLegend(SvgDocument svg)
    {
        double x = Left;
        for (int index = 0; index < Series.Count; index++)
        {
            svg.Polyline([(x, 44), (x + 24, 44)], index);
            svg.Marker(x + 12, 44, index, Series[index].Name);
            svg.Text(x + 30, 48, Series[index].Name);
            // No font to measure with: a generous width per letter.
            x += 52 + (7 * Series[index].Name.Length);
        }
    }

    // Half a step of room on both sides.
    private double X(int place) => Left + ((Width - Left - Right) * (place + 0.5) / Places.Count);

    private static double Y(ValueScale scale, double value) => Height - Bottom - ((Height - Top - Bottom) * scale.Place(value));
}
