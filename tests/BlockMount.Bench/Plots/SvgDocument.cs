using System.Globalization;
using System.Security;
using System.Text;

namespace BlockMount.Bench.Plots;

/// <summary>
/// Writes the few elements that a chart needs. Texts are escaped here and nowhere else. Colours come from classes of one style sheet with a
/// variant for dark mode, so that one file serves both.
/// </summary>
internal sealed class SvgDocument
{
    /// <summary>Lines and markers have classes s0, s1, ...; more series than this would look alike.</summary>
    public const int SeriesCount = 5;

    // Told apart in both modes and by readers who confuse red and green; and each series has a marker of its own.
    private static readonly string[] s_light = ["#0969da", "#bc4c00", "#8250df", "#1a7f37", "#6e7781"];
    private static readonly string[] s_dark = ["#58a6ff", "#f0883e", "#bc8cff", "#3fb950", "#8b949e"];

    private static readonly string s_style =
        "text{font:12px system-ui,sans-serif;fill:#24292f}.title{font-size:15px;font-weight:600}.back{fill:#fff}.grid{stroke:#d0d7de}.axis{stroke:#57606a}"
        + ".line{fill:none;stroke-width:2.5}" + Colours(s_light)
        + "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.back{fill:#0d1117}.grid{stroke:#30363d}.axis{stroke:#8b949e}" + Colours(s_dark) + "}";

    private readonly StringBuilder _body = new();

    /// <param name="description">For readers who cannot see it.</param>
    public SvgDocument(double width, double height, string description)
    {
        Append($"<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" role=\"img\">");
        Append($"<title>{Escape(description)}</title><style>{s_style}</style>");
        Append($"<rect class=\"back\" width=\"{width}\" height=\"{height}\"/>");
    }

    /// <summary>Where a text is anchored: start, middle or end.</summary>
    public void Text(double x, double y, string text, string anchor = "start", string style = "", double turned = 0)
    {
        string turn = turned == 0 ? "" : Invariant($" transform=\"rotate({turned:0.#} {x:0.#} {y:0.#})\"");
        string styled = style.Length == 0 ? "" : $" class=\"{style}\"";
        Append($"<text x=\"{x:0.#}\" y=\"{y:0.#}\" text-anchor=\"{anchor}\"{styled}{turn}>{Escape(text)}</text>");
    }

    /// <summary>A straight line of class axis or grid.</summary>
    public void Line(double fromX, double fromY, double toX, double toY, string style) =>
        Append($"<line class=\"{style}\" x1=\"{fromX:0.#}\" y1=\"{fromY:0.#}\" x2=\"{toX:0.#}\" y2=\"{toY:0.#}\"/>");

    /// <summary>The line of a series.</summary>
    public void Polyline(IEnumerable<(double X, double Y)> points, int series) =>
        Append($"<polyline class=\"line s{series}\" points=\"{string.Join(' ', points.Select(point => Invariant($"{point.X:0.#},{point.Y:0.#}")))}\"/>");

    /// <summary>The marker of a series: circle, square, diamond, triangle up, triangle down.</summary>
    /// <param name="tip">Shown when pointed at.</param>
    public void Marker(double x, double y, int series, string tip)
    {
        string shape = series switch
        {
            0 => Invariant($"<circle cx=\"{x:0.#}\" cy=\"{y:0.#}\" r=\"4\""),
            1 => Invariant($"<rect x=\"{x - 3.5:0.#}\" y=\"{y - 3.5:0.#}\" width=\"7\" height=\"7\""),
            2 => Invariant($"<path d=\"M{x:0.#} {y - 5:0.#}l5 5l-5 5l-5 -5z\""),
            3 => Invariant($"<path d=\"M{x:0.#} {y - 5:0.#}l5 9h-10z\""),
            _ => Invariant($"<path d=\"M{x:0.#} {y + 5:0.#}l5 -9h-10z\""),
        };
        Append($"{shape} class=\"mark s{series}\"><title>{Escape(tip)}</title>{(series switch { 0 => "</circle>", 1 => "</rect>", _ => "</path>" })}");
    }

    /// <summary>The whole document. The last call.</summary>
    public string Finish() => _body.Append("</svg>\n").ToString();

    private static string Colours(string[] colours) =>
        string.Concat(colours.Select((colour, series) => $".line.s{series}{{stroke:{colour}}}.mark.s{series}{{fill:{colour}}}"));

    private static string Escape(string text) => SecurityElement.Escape(text);

    private static string Invariant(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);

    private void Append(FormattableString line) => _body.Append(Invariant(line)).Append('\n');
}
