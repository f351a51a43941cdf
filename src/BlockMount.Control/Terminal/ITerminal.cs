namespace BlockMount.Control.Terminal;

/// <summary>A terminal that gives one key after the other and understands the usual escape sequences. The seam for tests. One thread.</summary>
public interface ITerminal
{
    /// <summary>Columns of a line, at least 1.</summary>
    public int Width { get; }

    /// <summary>Waits for a key, which is not shown.</summary>
    /// <exception cref="EndOfStreamException">The terminal is gone.</exception>
    public ConsoleKeyInfo ReadKey();

    /// <summary>Shows text, escape sequences included, at once.</summary>
    public void Write(string text);
}
