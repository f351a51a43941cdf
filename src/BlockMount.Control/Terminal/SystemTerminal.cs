namespace BlockMount.Control.Terminal;

/// <summary>The process's own terminal. Ctrl-C is a key while it is in use.</summary>
public sealed class SystemTerminal : ITerminal, IDisposable
{
    private readonly bool _controlCAsInput = Console.TreatControlCAsInput;

    public SystemTerminal() => Console.TreatControlCAsInput = true;

    /// <summary>True if both directions are a terminal, so that lines can be edited.</summary>
    public static bool IsUsable => !Console.IsInputRedirected && !Console.IsOutputRedirected;

    /// <inheritdoc/>
    public int Width => Math.Max(1, Console.BufferWidth);

    /// <inheritdoc/>
    public ConsoleKeyInfo ReadKey()
    {
        try
        {
            return Console.ReadKey(intercept: true);
        }
        catch (InvalidOperationException error)
        {
            throw new EndOfStreamException("the terminal is gone", error);
        }
    }

    /// <inheritdoc/>
    public void Write(string text)
    {
        Console.Out.Write(text);
        Console.Out.Flush();
    }

    /// <summary>Gives Ctrl-C its meaning back.</summary>
    public void Dispose() => Console.TreatControlCAsInput = _controlCAsInput;
}
