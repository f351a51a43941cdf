namespace BlockMount.Control.Terminal;

/// <summary>Lines that were entered, oldest first, and a place in them while one looks for an earlier one. One thread.</summary>
public sealed class LineHistory
{
    private const int LinesMax = 500;

    private readonly List<string> _lines = [];
    private int _place;
    private string _draft = "";

    /// <summary>The lines, oldest first.</summary>
    public IReadOnlyList<string> Lines => _lines;

    /// <summary>Keeps a line unless it is empty or repeats the last one, and goes back to the end.</summary>
    public void Add(string line)
    {
        if (line.Length > 0 && (_lines.Count == 0 || _lines[^1] != line))
        {
            _lines.Add(line);
            if (_lines.Count > LinesMax)
            {
                _lines.RemoveAt(0);
            }
        }

        _place = _lines.Count;
    }

    /// <summary>The line before the one that is shown; null at the oldest.</summary>
    /// <param name="shown">What is shown now; kept as the draft when it is the newest.</param>
    public string? Earlier(string shown)
    {
        if (_place == 0)
        {
            return null;
        }

        if (_place == _lines.Count)
        {
            _draft = shown;
        }

        return _lines[--_place];
    }

    /// <summary>The line after the one that is shown, at last the draft; null there.</summary>
    public string? Later()
    {
        if (_place == _lines.Count)
        {
            return null;
        }

        _place++;
        return _place == _lines.Count ? _draft : _lines[_place];
    }
}
