using System.Runtime.CompilerServices;

namespace BlockMount.Formats.Qcow2.Check;

/// <summary>Takes findings, and knows whether anybody will see their text.</summary>
internal interface IFindingList
{
    /// <summary>True as long as findings are listed and not only counted.</summary>
    public bool IsListing { get; }
}

/// <summary>
/// The description of a finding, put together only while the report still lists findings: a hostile image has millions of them, and formatting texts that
/// nobody sees would be most of the work.
/// </summary>
[InterpolatedStringHandler]
internal ref struct FindingText
{
    private readonly bool _isListed;
    private DefaultInterpolatedStringHandler _text;

    public FindingText(int literalLength, int formattedCount, IFindingList findings, out bool isListed)
    {
        isListed = _isListed = findings.IsListing;
        _text = isListed ? new DefaultInterpolatedStringHandler(literalLength, formattedCount) : default;
    }

    public void AppendLiteral(string text) => _text.AppendLiteral(text);

    public void AppendFormatted<T>(T value) => _text.AppendFormatted(value);

    public void AppendFormatted<T>(T value, string? format) => _text.AppendFormatted(value, format);

    /// <summary>The text; empty where nobody lists it. Ends the use of this.</summary>
    internal string TakeText() => _isListed ? _text.ToStringAndClear() : "";
}
