using BlockMount.Base;

namespace BlockMount.Daemon.Storage;

/// <summary>One option of the command line.</summary>
/// <param name="Name">Its long name, without dashes; empty for a word that is no option.</param>
/// <param name="Value">Its argument; empty if it takes none.</param>
/// <param name="Written">The words as they were written, which begin the error of an option.</param>
internal sealed record OptionWord(string Name, string Value, string Written);

/// <summary>
/// Takes a command line apart as getopt_long(3) does, with the options of qemu-storage-daemon: long names may be cut short, values follow or come behind '=',
/// and short options may be run together. Stateless.
/// </summary>
internal static class OptionWords
{
    private static readonly (string Name, char Short, bool HasValue)[] s_options =
    [
        ("blockdev", '\0', true), ("chardev", '\0', true), ("daemonize", '\0', false), ("export", '\0', true), ("help", 'h', false), ("monitor", '\0', true),
        ("nbd-server", '\0', true), ("object", '\0', true), ("pidfile", '\0', true), ("trace", 'T', true), ("version", 'V', false),
    ];

    /// <summary>The options, in their order.</summary>
    /// <exception cref="BlockMountException">One is not known or has no value; nothing was carried out. Thrown when its turn comes: those before it have been returned.</exception>
    public static IEnumerable<OptionWord> Read(string[] words)
    {
        for (int i = 0; i < words.Length; i++)
        {
            string word = words[i];
            if (word == "--")
            {
                // As at qemu-storage-daemon, what follows is not looked at.
                yield break;
            }

            if (word.StartsWith("--", StringComparison.Ordinal))
            {
                yield return Long(words, ref i);
            }
            else if (word.Length > 1 && word[0] == '-')
            {
                foreach (OptionWord option in Short(words, i))
                {
                    yield return option;
                }

                i += NeedsNextWord(word) ? 1 : 0;
            }
            else
            {
                yield return new OptionWord("", word, word);
            }
        }
    }

    private static OptionWord Long(string[] words, ref int at)
    {
        string word = words[at];
        int equals = word.IndexOf('=', StringComparison.Ordinal);
        string name = equals < 0 ? word[2..] : word[2..equals];
        var matches = s_options.Where(option => option.Name.StartsWith(name, StringComparison.Ordinal)).ToArray();
        if (matches.Length != 1)
        {
            throw new BlockMountException(matches.Length == 0
                ? $"unrecognized option '--{name}'"
                : $"option '--{name}' is ambiguous; possibilities: {string.Join(' ', matches.Select(match => $"'--{match.Name}'"))}");
        }

        var option = matches[0];
        if (!option.HasValue)
        {
            return equals < 0 ? new OptionWord(option.Name, "", word) : throw new BlockMountException($"option '--{option.Name}' doesn't allow an argument");
        }

        if (equals >= 0)
        {
            return new OptionWord(option.Name, word[(equals + 1)..], word);
        }

        at++;
        return at < words.Length
            ? new OptionWord(option.Name, words[at], $"{word} {words[at]}")
            : throw new BlockMountException($"option '--{option.Name}' requires an argument");
    }

    private static IEnumerable<OptionWord> Short(string[] words, int at)
    {
        string word = words[at];
        for (int i = 1; i < word.Length; i++)
        {
            char letter = word[i];
            (string name, char _, bool hasValue) = s_options.FirstOrDefault(option => option.Short == letter && letter != '\0');
            if (name is null)
            {
                throw new BlockMountException($"invalid option -- '{letter}'");
            }

            if (!hasValue)
            {
                yield return new OptionWord(name, "", word);
                continue;
            }

            if (i + 1 < word.Length)
            {
                yield return new OptionWord(name, word[(i + 1)..], word);
            }
            else
            {
                yield return at + 1 < words.Length
                    ? new OptionWord(name, words[at + 1], $"{word} {words[at + 1]}")
                    : throw new BlockMountException($"option requires an argument -- '{letter}'");
            }

            yield break;
        }
    }

    // The first of the letters that takes a value takes the rest of the word, or the next one if there is no rest.
    private static bool NeedsNextWord(string word)
    {
        int taking = word.IndexOf('T', 1);
        return taking == word.Length - 1;
    }
}
