namespace BlockMount.Control.Hmp;

/// <summary>A command line that does not fit its command. The message is what the user reads; nothing was done.</summary>
public sealed class HmpSyntaxException(string message, bool suggestsHelp) : Exception(message)
{
    /// <summary>True if a line that names the command's help should follow.</summary>
    public bool SuggestsHelp { get; } = suggestsHelp;
}
