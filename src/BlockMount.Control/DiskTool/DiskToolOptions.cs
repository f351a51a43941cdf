namespace BlockMount.Control.DiskTool;

/// <summary>The words of a command, taken apart as getopt does: options anywhere, "--" ends them. Immutable.</summary>
internal sealed class DiskToolOptions
{
    private readonly Dictionary<char, string> _given;

    private DiskToolOptions(Dictionary<char, string> given, IReadOnlyList<string> rest)
    {
        _given = given;
        Rest = rest;
    }

    /// <summary>What is no option.</summary>
    internal IReadOnlyList<string> Rest { get; }

    /// <summary>True if the option was given.</summary>
    internal bool Has(char letter) => _given.ContainsKey(letter);

    /// <summary>The value of an option that takes one; null if it was not given.</summary>
    internal string? Value(char letter) => _given.GetValueOrDefault(letter);

    /// <param name="command">Who complains about its options.</param>
    /// <param name="words">Behind the command's name.</param>
    /// <exception cref="DiskToolException">There is no such option, or its value is missing.</exception>
    internal static DiskToolOptions Parse(DiskToolCommand command, IReadOnlyList<string> words)
    {
        Dictionary<char, string> given = [];
        List<string> rest = [];
        for (int i = 0; i < words.Count; i++)
        {
            if (words[i] == "--")
            {
                rest.AddRange(words.Skip(i + 1));
                break;
            }

            if (words[i].Length < 2 || words[i][0] != '-')
            {
                rest.Add(words[i]);
                continue;
            }

            i += ReadLetters(command, words, i, given);
        }

        return new DiskToolOptions(given, rest);
    }

    // Returns how many words more than this one were used.
    private static int ReadLetters(DiskToolCommand command, IReadOnlyList<string> words, int at, Dictionary<char, string> given)
    {
        string word = words[at];
        for (int i = 1; i < word.Length; i++)
        {
            int place = word[i] == ':' ? -1 : command.Letters.IndexOf(word[i]);
            if (place < 0)
            {
                throw new DiskToolException($"{command.Name}: invalid option -- '{word[i]}'\n{command.HelpLine}");
            }

            if (place + 1 == command.Letters.Length || command.Letters[place + 1] != ':')
            {
                given[word[i]] = "";
                continue;
            }

            string? value = i + 1 < word.Length ? word[(i + 1)..] : at + 1 < words.Count ? words[at + 1] : null;
            given[word[i]] = value ?? throw new DiskToolException($"{command.Name}: option requires an argument -- '{word[i]}'\n{command.HelpLine}");
            return i + 1 < word.Length ? 0 : 1;
        }

        return 0;
    }
}
