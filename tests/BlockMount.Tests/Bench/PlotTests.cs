using System.Globalization;
using System.Xml.Linq;
using BlockMount.Bench.Plots;
using Xunit;

namespace BlockMount.Tests.Bench;

/// <summary>The plots as XML: well-formed, labelled, escaped, in place.</summary>
public sealed class PlotTests
{
    private static readonly XNamespace s_svg = "http://www.w3.org/2000/svg";

    [Fact]
    public void Draw_Texts_AreThereAndEscaped()
    {
        const string hostile = "a<b> & \"c\" 'd'";
        XElement svg = Parse(new LineChart(hostile, "x, " + hostile, "y, µs", [hostile, "2"], [new Series("s " + hostile, [1, 2])]));
        string[] texts = [.. svg.Elements(s_svg + "text").Select(text => text.Value)];
        Assert.Contains(hostile, texts);
        Assert.Contains("x, " + hostile, texts);
        Assert.Contains("y, µs", texts);
        Assert.Contains("s " + hostile, texts);
        Assert.Equal(hostile, svg.Element(s_svg + "title")!.Value);
    }

    [Fact]
    public void Draw_HigherValue_IsHigherUp_AndAllLieInside()
    {
        XElement svg = Parse(new LineChart("t", "x", "y", ["1", "2", "3"], [new Series("a", [0, 500, 1000])]));
        double[] heights = [.. Points(Curves(svg).Single()).Select(point => point.Y)];
        Assert.True(heights[0] > heights[1] && heights[1] > heights[2], string.Join(' ', heights));
        Assert.Equal(heights[0] - heights[1], heights[1] - heights[2], precision: 1);
        Assert.All(heights, height => Assert.InRange(height, 60, 350));
    }

    [Fact]
    public void Draw_Logarithmic_SpacesPowersOfTenEvenly()
    {
        XElement svg = Parse(new LineChart("t", "x", "y", ["1", "2", "3"], [new Series("a", [1, 10, 100])], Logarithmic: true));
        double[] heights = [.. Points(Curves(svg).Single()).Select(point => point.Y)];
        Assert.Equal(heights[0] - heights[1], heights[1] - heights[2], precision: 1);
        Assert.True(heights[0] > heights[1]);
    }

    [Fact]
    public void Draw_MissingValue_LeavesAGap()
    {
        XElement svg = Parse(new LineChart("t", "x", "y", ["1", "2", "3", "4", "5"], [new Series("a", [1, 2, null, 4, 5])]));
        XElement[] curves = [.. Curves(svg)];
        Assert.Equal([2, 2], curves.Select(curve => Points(curve).Length));
        // Four values and the legend.
        Assert.Equal(5, svg.Elements(s_svg + "circle").Count());
    }

    [Fact]
    public void Draw_NothingMeasured_IsStillAChart()
    {
        XElement svg = Parse(new LineChart("t", "x", "y", ["1", "2"], [], Logarithmic: true));
        Assert.Empty(Curves(svg));
        Assert.Contains("x", svg.Elements(s_svg + "text").Select(text => text.Value));
    }

    [Fact]
    public void Draw_HasColoursForLightAndDarkMode()
    {
        string svg = new LineChart("t", "x", "y", ["1"], [new Series("a", [1])]).Draw();
        string[] parts = svg.Split("@media(prefers-color-scheme:dark)");
        Assert.Equal(2, parts.Length);
        foreach (string rule in new[] { "text{", ".back{", ".grid{", ".axis{", ".line.s0{", ".mark.s4{" })
        {
            Assert.All(parts, part => Assert.Contains(rule, part, StringComparison.Ordinal));
        }
    }

    [Theory]
    [InlineData(0.7, new[] { 0, 0.2, 0.4, 0.6, 0.8 })]
    [InlineData(43, new[] { 0, 10.0, 20, 30, 40, 50 })]
    [InlineData(50, new[] { 0, 10.0, 20, 30, 40, 50 })]
    [InlineData(205_444, new[] { 0, 50_000.0, 100_000, 150_000, 200_000, 250_000 })]
    public void Linear_Ticks_AreRoundAndCoverTheLargest(double largest, double[] ticks)
    {
        ValueScale scale = ValueScale.Linear(largest);
        Assert.Equal(ticks.Length, scale.Ticks.Count);
        Assert.All(ticks.Zip(scale.Ticks), pair => Assert.Equal(pair.First, pair.Second, precision: 9));
        Assert.InRange(scale.Place(largest), 0.8, 1);
        Assert.Equal(0, scale.Place(0));
    }

    [Fact]
    public void Logarithmic_Ticks_AreThePowersOfTenAround()
    {
        ValueScale scale = ValueScale.Logarithmic(0.4, 3400);
        Assert.Equal([0.1, 1, 10, 100, 1000, 10_000], scale.Ticks.Select(tick => Math.Round(tick, 9)));
        Assert.Equal(0.4, scale.Place(10), precision: 9);
    }

    private static XElement Parse(LineChart chart) => XDocument.Parse(chart.Draw()).Root!;

    // Curves begin in the drawing; the legend's lines lie above it.
    private static IEnumerable<XElement> Curves(XElement svg) => svg.Elements(s_svg + "polyline").Where(line => Points(line)[0].Y > 50);

    private static (double X, double Y)[] Points(XElement line) =>
    [
        .. line.Attribute("points")!.Value.Split(' ').Select(point => point.Split(','))
            .Select(pair => (double.Parse(pair[0], CultureInfo.InvariantCulture), double.Parse(pair[1], CultureInfo.InvariantCulture))),
    ];
}
