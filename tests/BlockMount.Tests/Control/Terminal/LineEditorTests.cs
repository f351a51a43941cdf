using System.Text;
using BlockMount.Control.Terminal;
using Xunit;

namespace BlockMount.Tests.Control.Terminal;

/// <summary>Editing a line by keys.</summary>
public sealed class LineEditorTests
{
    private static readonly string[] s_words = ["block-stream", "block-commit", "quit"];

    [Fact]
    public void EditsInTheMiddle()
    {
        KeyTerminal keys = new();
        keys.Type("qit");
        keys.Press(ConsoleKey.LeftArrow);
        keys.Press(ConsoleKey.LeftArrow);
        keys.Type("u");
        keys.Press(ConsoleKey.Enter);
        Assert.Equal("quit", Editor(keys).ReadLine("> "));
        Assert.EndsWith("\r\n", keys.Shown);
    }

    [Fact]
    public void ControlKeysDoWhatTheyDoElsewhere()
    {
        KeyTerminal keys = new();
        keys.Type("one two three");
        keys.Control(ConsoleKey.W);
        keys.Control(ConsoleKey.A);
        keys.Control(ConsoleKey.D);
        keys.Type("O");
        keys.Control(ConsoleKey.E);
        keys.Press(ConsoleKey.Backspace);
        keys.Press(ConsoleKey.Enter);
        Assert.Equal("One two", Editor(keys).ReadLine("> "));
    }

    [Fact]
    public void HistoryGoesBackAndReturnsToTheDraft()
    {
        KeyTerminal keys = new();
        LineEditor editor = Editor(keys);
        keys.Enter("first");
        keys.Enter("second");
        keys.Enter("second");
        Assert.Equal("first second second", string.Join(' ', editor.ReadLine("> "), editor.ReadLine("> "), editor.ReadLine("> ")));
        keys.Type("draft");
        keys.Press(ConsoleKey.UpArrow);
        keys.Press(ConsoleKey.UpArrow);
        keys.Press(ConsoleKey.UpArrow);
        keys.Press(ConsoleKey.Enter);
        Assert.Equal("first", editor.ReadLine("> "));
        keys.Type("draft");
        keys.Press(ConsoleKey.UpArrow);
        keys.Press(ConsoleKey.DownArrow);
        keys.Press(ConsoleKey.Enter);
        Assert.Equal("draft", editor.ReadLine("> "));
    }

    [Fact]
    public void CompletesAsFarAsTheWordsAgree()
    {
        KeyTerminal keys = new();
        LineEditor editor = Editor(keys);
        keys.Type("b");
        keys.Press(ConsoleKey.Tab);
        keys.Press(ConsoleKey.Tab);
        keys.Type("c");
        keys.Press(ConsoleKey.Tab);
        keys.Type("x");
        keys.Press(ConsoleKey.Enter);
        Assert.Equal("block-commit x", editor.ReadLine("> "));
        Assert.Contains("block-stream  block-commit", keys.Shown, StringComparison.Ordinal);
    }

    [Fact]
    public void EndsAtControlDAndWhenTheTerminalIsGone()
    {
        KeyTerminal keys = new();
        keys.Type("lost");
        keys.Control(ConsoleKey.C);
        keys.Control(ConsoleKey.D);
        LineEditor editor = Editor(keys);
        Assert.Null(editor.ReadLine("> "));
        keys.Type("half a line");
        Assert.Null(editor.ReadLine("> "));
    }

    [Fact]
    public void ALongLineStaysInsideTheTerminal()
    {
        KeyTerminal keys = new() { Width = 10 };
        keys.Type(new string('x', 50));
        keys.Press(ConsoleKey.Home);
        keys.Press(ConsoleKey.Enter);
        Assert.Equal(50, Editor(keys).ReadLine("> ")!.Length);
        Assert.DoesNotContain(new string('x', 9), keys.Shown, StringComparison.Ordinal);
    }

    private static LineEditor Editor(KeyTerminal keys) =>
        new(keys, text => [.. s_words.Where(word => word.StartsWith(text[(text.LastIndexOf(' ') + 1)..], StringComparison.Ordinal))]);

    private sealed class KeyTerminal : ITerminal
    {
        private readonly Queue<ConsoleKeyInfo> _keys = new();
        private readonly StringBuilder _shown = new();

        public int Width { get; init; } = 80;

        public string Shown => _shown.ToString();

        public ConsoleKeyInfo ReadKey() => _keys.TryDequeue(out ConsoleKeyInfo key) ? key : throw new EndOfStreamException();

        public void Write(string text) => _shown.Append(text);

        public void Type(string text)
        {
            foreach (char c in text)
            {
                _keys.Enqueue(new ConsoleKeyInfo(c, 0, shift: false, alt: false, control: false));
            }
        }

        public void Press(ConsoleKey key) => _keys.Enqueue(new ConsoleKeyInfo('\0', key, shift: false, alt: false, control: false));

        public void Control(ConsoleKey key) => _keys.Enqueue(new ConsoleKeyInfo('\0', key, shift: false, alt: false, control: true));

        public void Enter(string line)
        {
            Type(line);
            Press(ConsoleKey.Enter);
        }
    }
}
