using System.Text;

namespace BlockMount.Control.Hmp;

/// <summary>
/// Reads the words of one HMP line from left to right. A word ends at white space; in double quotes it may contain any, and
/// \n, \r, \\, \' and \" are escapes (the rules of QEMU's monitor). A # that stands alone begins a comment: node names may begin with one. One thread.
/// </summary>
public sealed class HmpLexer
{
    private readonly string _line;
    private int _position;

    public HmpLexer(string line)
    {
        _line = line;
        SkipSpaces();
    }

    /// <summary>True if only white space is left.</summary>
    public bool AtEnd => _position == _line.Length;

    /// <summary>The next word.</summary>
    /// <exception cref="HmpSyntaxException">The quotes are not closed, or hold an unknown escape.</exception>
    public string ReadWord()
    {
        string word = !AtEnd && _line[_position] == '"' ? ReadQuoted() : ReadPlain();
        SkipSpaces();
        return word;
    }

    /// <summary>Takes the next word if it is a dash and one of these letters; '\0' if it is not.</summary>
    /// <exception cref="HmpSyntaxException">It is a dash and another letter.</exception>
    public char ReadFlag(string command, string letters)
    {
        if (AtEnd || _line[_position] != '-' || !IsWordEnd(_position + 2))
        {
            return '\0';
        }

        char letter = _position + 1 < _line.Length ? _line[_position + 1] : '\0';
        if (!letters.Contains(letter) || letter == '\0')
        {
            throw new HmpSyntaxException($"{command}: unsupported option -{(letter == '\0' ? "" : letter)}", suggestsHelp: true);
        }

        _position += 2;
        SkipSpaces();
        return letter;
    }

    /// <summary>Everything that is left, without white space at its end.</summary>
    public string ReadRest()
    {
        string rest = _line[_position..].TrimEnd();
        _position = _line.Length;
        return rest;
    }

    private string ReadPlain()
    {
        int start = _position;
        while (!IsWordEnd(_position))
        {
            _position++;
        }

        return _line[start.._position];
    }

    private string ReadQuoted()
    {
        StringBuilder word = new();
        for (_position++; _position < _line.Length; _position++)
        {
            char c = _line[_position];
            if (c == '"')
            {
                _position++;
                return word.ToString();
            }

            _ = word.Append(c == '\\' ? ReadEscape() : c);
        }

        throw new HmpSyntaxException("unterminated string", suggestsHelp: false);
    }

    private char ReadEscape()
    {
        _position++;
        char c = _position < _line.Length ? _line[_position] : '\0';
        return c switch
        {
            'n' => '\n',
            'r' => '\r',
            '\\' or '\'' or '"' => c,
            _ => throw new HmpSyntaxException($"unsupported escape code: '\\{c}'", suggestsHelp: false),
        };
    }

    private bool IsWordEnd(int position) => position >= _line.Length || char.IsWhiteSpace(_line[position]);

    private void SkipSpaces()
    {
        while (_position < _line.Length && char.IsWhiteSpace(_line[_position]))
        {
            _position++;
        }

        if (_position < _line.Length && _line[_position] == '#' && IsWordEnd(_position + 1))
        {
            _position = _line.Length;
        }
    }
}
