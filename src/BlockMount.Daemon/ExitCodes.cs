namespace BlockMount.Daemon;

/// <summary>What the program ends with. The verbs named after qemu-img's have that tool's codes.</summary>
internal static class ExitCodes
{
    public const int Success = 0;

    /// <summary>The request was understood and failed; standard error says why.</summary>
    public const int Failure = 1;

    /// <summary>The command line is wrong; nothing was opened or made.</summary>
    public const int Usage = 2;
}
