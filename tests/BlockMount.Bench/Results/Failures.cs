using BlockMount.Bench.Loads;

namespace BlockMount.Bench.Results;

/// <summary>What could not be measured, and why. A contender that fails once under a load is not asked again; its rows stay, without a figure.</summary>
internal sealed class Failures
{
    private readonly Dictionary<(string What, Contender Contender), string> _reasons = [];

    /// <summary>All of them, in the order in which they happened.</summary>
    public IEnumerable<(string What, Contender Contender, string Reason)> All => _reasons.Select(reason => (reason.Key.What, reason.Key.Contender, reason.Value));

    /// <summary>Keeps the first line that says something.</summary>
    public void Add(string what, Contender contender, string message)
    {
        string[] lines = message.Split('\n', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);
        // What a command printed follows the line that says which command it was.
        string reason = lines.Skip(1).Concat(lines).FirstOrDefault("no reason given");
        _reasons.TryAdd((what, contender), reason);
        Console.Error.WriteLine($"bench: {what}: {contender}: {reason}");
    }

    /// <summary>Whether it failed before.</summary>
    public bool Has(string what, Contender contender) => _reasons.ContainsKey((what, contender));
}
