namespace BlockMount.Control.DiskTool;

/// <summary>A command of the disk tool. Immutable.</summary>
/// <param name="Names">What it is called; the first is its name.</param>
/// <param name="WordsMin">Fewest words behind the name, options among them.</param>
/// <param name="WordsMax">Most; -1 for any number.</param>
/// <param name="Letters">Its options, as getopt takes them.</param>
/// <param name="Synopsis">Its words, for people.</param>
/// <param name="Help">One line.</param>
/// <param name="Run">Carries it out; returns what is shown.</param>
internal sealed record DiskToolCommand(
    string[] Names, int WordsMin, int WordsMax, string Letters, string Synopsis, string Help, Func<DiskToolTarget, DiskToolOptions, ValueTask<string>> Run)
{
    internal string Name => Names[0];

    internal string HelpLine => $"{Name} {Synopsis}".TrimEnd() + $" -- {Help}\n";

    /// <summary>What to say of a wrong number of words.</summary>
    internal string WordsExpected => WordsMax < 0
        ? $"at least {WordsMin} arguments"
        : WordsMin == WordsMax ? $"{WordsMin} arguments" : $"between {WordsMin} and {WordsMax} arguments";
}
