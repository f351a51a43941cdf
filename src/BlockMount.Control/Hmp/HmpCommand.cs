namespace BlockMount.Control.Hmp;

/// <summary>A command of the human monitor. Immutable.</summary>
/// <param name="Names">What it is called, shortest forms last.</param>
/// <param name="Synopsis">Its parameters, for people.</param>
/// <param name="Help">One line.</param>
/// <param name="Run">Carries it out and returns what the user reads: lines with their ends, or nothing.</param>
internal sealed record HmpCommand(
    IReadOnlyList<string> Names, string Synopsis, string Help, IReadOnlyList<HmpParameter> Parameters, Func<HmpArguments, ValueTask<string>> Run)
{
    /// <summary>The line that help shows.</summary>
    public string HelpLine => $"{string.Join('|', Names)} {Synopsis}".TrimEnd() + $" -- {Help}\n";
}
