using System.Text;

namespace BlockMount.Control.Terminal;

/// <summary>
/// Reads lines from a terminal: cursor keys, history, completion, and the usual control keys. A line that is longer than the
/// terminal is wide scrolls sideways. One thread.
/// </summary>
public sealed class LineEditor
{
    private readonly ITerminal _terminal;
    private readonly Func<string, IReadOnlyList<string>> _complete;
    private readonly StringBuilder _line = new();
    private string _prompt = "";
    private int _cursor;

    /// <param name="complete">Words that could stand in place of the last word of the text it is given.</param>
    public LineEditor(ITerminal terminal, Func<string, IReadOnlyList<string>> complete)
    {
        _terminal = terminal;
        _complete = complete;
    }

    /// <summary>The lines entered so far.</summary>
    public LineHistory History { get; } = new();

    /// <summary>Reads a line. Null at the end: Ctrl-D on an empty line, or the terminal is gone. Ctrl-C gives up the line and begins another.</summary>
    public string? ReadLine(string prompt)
    {
        _prompt = prompt;
        SetLine("");
        try
        {
            while (true)
            {
                Draw();
                ConsoleKeyInfo key = _terminal.ReadKey();
                if (key.Key == ConsoleKey.Enter || key.KeyChar is '\r' or '\n')
                {
                    return Accept();
                }

                if (IsControl(key, ConsoleKey.D) && _line.Length == 0)
                {
                    _terminal.Write("\r\n");
                    return null;
                }

                Handle(key);
            }
        }
        catch (EndOfStreamException)
        {
            return null;
        }
    }

    private static bool IsControl(ConsoleKeyInfo key, ConsoleKey letter) => key.Key == letter && (key.Modifiers & ConsoleModifiers.Control) != 0;

    private string Accept()
    {
        string line = _line.ToString();
        History.Add(line);
        _terminal.Write("\r\n");
        return line;
    }

    private void Handle(ConsoleKeyInfo key)
    {
        if ((key.Modifiers & ConsoleModifiers.Control) != 0)
        {
            HandleControl(key.Key);
            return;
        }

        switch (key.Key)
        {
            case ConsoleKey.LeftArrow:
                _cursor = Math.Max(0, _cursor - 1);
                break;
            case ConsoleKey.RightArrow:
                _cursor = Math.Min(_line.Length, _cursor + 1);
                break;
            case ConsoleKey.Home:
                _cursor = 0;
                break;
            case ConsoleKey.End:
                _cursor = _line.Length;
                break;
            case ConsoleKey.UpArrow:
                SetLine(History.Earlier(_line.ToString()) ?? _line.ToString());
                break;
            case ConsoleKey.DownArrow:
                SetLine(History.Later() ?? _line.ToString());
                break;
            case ConsoleKey.Backspace:
                Remove(_cursor - 1, _cursor);
                break;
            case ConsoleKey.Delete:
                Remove(_cursor, _cursor + 1);
                break;
            case ConsoleKey.Tab:
                Complete();
                break;
            default:
                Insert(key.KeyChar);
                break;
        }
    }

    private void HandleControl(ConsoleKey key)
    {
        switch (key)
        {
            case ConsoleKey.A:
                _cursor = 0;
                break;
            case ConsoleKey.E:
                _cursor = _line.Length;
                break;
            case ConsoleKey.B:
                _cursor = Math.Max(0, _cursor - 1);
                break;
            case ConsoleKey.F:
                _cursor = Math.Min(_line.Length, _cursor + 1);
                break;
            case ConsoleKey.P:
                SetLine(History.Earlier(_line.ToString()) ?? _line.ToString());
                break;
            case ConsoleKey.N:
                SetLine(History.Later() ?? _line.ToString());
                break;
            case ConsoleKey.D:
                Remove(_cursor, _cursor + 1);
                break;
            case ConsoleKey.H:
                Remove(_cursor - 1, _cursor);
                break;
            case ConsoleKey.K:
                Remove(_cursor, _line.Length);
                break;
            case ConsoleKey.U:
                Remove(0, _cursor);
                break;
            case ConsoleKey.W:
                Remove(WordStart(), _cursor);
                break;
            case ConsoleKey.L:
                _terminal.Write("\x1b[H\x1b[2J");
                break;
            case ConsoleKey.C:
                _terminal.Write("^C\r\n");
                SetLine("");
                break;
            default:
                break;
        }
    }

    private void Insert(char c)
    {
        if (!char.IsControl(c))
        {
            _ = _line.Insert(_cursor++, c);
        }
    }

    private void Remove(int start, int end)
    {
        if (start >= 0 && end <= _line.Length)
        {
            _ = _line.Remove(start, end - start);
            _cursor = start;
        }
    }

    private int WordStart()
    {
        int start = _cursor;
        while (start > 0 && _line[start - 1] == ' ')
        {
            start--;
        }

        while (start > 0 && _line[start - 1] != ' ')
        {
            start--;
        }

        return start;
    }

    // Extends the word at the cursor by what all candidates have in common; shows them when that is nothing.
    private void Complete()
    {
        string before = _line.ToString(0, _cursor);
        IReadOnlyList<string> candidates = _complete(before);
        if (candidates.Count == 0)
        {
            return;
        }

        int start = before.LastIndexOf(' ') + 1;
        string common = candidates.Aggregate(CommonStart);
        // Behind a key comes its value.
        string word = candidates.Count == 1 && !common.EndsWith('=') && !common.EndsWith('.') ? common + " " : common;
        if (word.Length > before.Length - start)
        {
            Remove(start, _cursor);
            _ = _line.Insert(_cursor, word);
            _cursor += word.Length;
        }
        else if (candidates.Count > 1)
        {
            _terminal.Write("\r\n" + string.Join("  ", candidates) + "\r\n");
        }
    }

    private static string CommonStart(string left, string right)
    {
        int length = 0;
        while (length < left.Length && length < right.Length && left[length] == right[length])
        {
            length++;
        }

        return left[..length];
    }

    private void SetLine(string text)
    {
        _ = _line.Clear().Append(text);
        _cursor = text.Length;
    }

    private void Draw()
    {
        int room = Math.Max(1, _terminal.Width - _prompt.Length - 1);
        int first = Math.Max(0, _cursor - room);
        string shown = _line.ToString(first, Math.Min(room, _line.Length - first));
        int back = shown.Length - (_cursor - first);
        _terminal.Write($"\r{_prompt}{shown}\x1b[K{(back > 0 ? $"\x1b[{back}D" : "")}");
    }
}
