namespace BlockMount.Control.Hmp;

/// <summary>A command's name.</summary>
/// <param name="TakesDevice">A device's name comes first behind it.</param>
public sealed record HmpWord(string Name, bool TakesDevice);

/// <summary>Finds the words that could stand where a line ends, here and in a client that knows of the commands by their help.</summary>
public static class HmpCompletion
{
    /// <param name="text">The line as far as it is typed.</param>
    /// <param name="commands">What a line may begin with.</param>
    /// <param name="queries">What may follow info.</param>
    /// <param name="devices">Names of devices.</param>
    public static IReadOnlyList<string> Complete(string text, IReadOnlyList<HmpWord> commands, IReadOnlyList<HmpWord> queries, IReadOnlyList<string> devices)
    {
        int start = text.LastIndexOf(' ') + 1;
        string word = text[start..];
        string[] before = [.. text[..start].Split(' ', StringSplitOptions.RemoveEmptyEntries).Where(typed => !typed.StartsWith('-'))];
        IEnumerable<string> candidates = before switch
        {
            [] or ["help" or "?"] => commands.Select(command => command.Name),
            ["info"] or ["help" or "?", "info"] => queries.Select(query => query.Name),
            ["info", var query] when TakesDevice(queries, query) => devices,
            [var command] when TakesDevice(commands, command) => devices,
            _ => [],
        };
        return [.. candidates.Where(name => name.StartsWith(word, StringComparison.Ordinal)).Order(StringComparer.Ordinal)];
    }

    /// <summary>The commands that a text of help names, a line each: names, parameters, two dashes and a sentence.</summary>
    /// <param name="before">What each line begins with, as "info ".</param>
    public static IReadOnlyList<HmpWord> ReadHelp(string help, string before = "")
    {
        List<HmpWord> words = [];
        foreach (string line in help.Split('\n').Where(line => line.StartsWith(before, StringComparison.Ordinal)))
        {
            string[] parts = line[before.Length..].Split(' ', StringSplitOptions.RemoveEmptyEntries);
            if (parts.Length > 0)
            {
                bool device = parts.Skip(1).FirstOrDefault(part => !part.StartsWith("[-", StringComparison.Ordinal)) is "device" or "[device]";
                words.AddRange(parts[0].Split('|').Select(name => new HmpWord(name, device)));
            }
        }

        return words;
    }

    private static bool TakesDevice(IReadOnlyList<HmpWord> words, string name) => words.Any(word => word.Name == name && word.TakesDevice);
}
