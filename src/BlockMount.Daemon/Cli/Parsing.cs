using System.CommandLine;

namespace BlockMount.Daemon.Cli;

/// <summary>
/// What System.CommandLine does not do as wanted: it takes an unknown option for an argument, and it answers errors with
/// the whole help. Here both become one line and a hint.
/// </summary>
internal static class Parsing
{
    /// <summary>Parses, or throws the first error.</summary>
    /// <exception cref="UsageException">The command line does not fit.</exception>
    public static ParseResult Parse(Command root, string[] arguments)
    {
        ParseResult result = root.Parse(arguments, new ParserConfiguration { ResponseFileTokenReplacer = null });
        Command command = result.CommandResult.Command;
        List<Option> options = [.. command.Options, .. root.Options.Where(option => option.Recursive)];
        if (options.Any(option => option is System.CommandLine.Help.HelpOption && result.GetResult(option) is { Implicit: false }))
        {
            return result;
        }

        string name = command == root ? "blockmount" : $"blockmount {command.Name}";
        RefuseUnknownOptions(options, arguments, name);
        if (result.Errors.Count > 0)
        {
            string message = result.Errors[0].Message.TrimEnd('.');
            throw new UsageException(char.ToLowerInvariant(message[0]) + message[1..], $"See '{name} --help'.");
        }

        return result;
    }

    private static void RefuseUnknownOptions(List<Option> options, string[] arguments, string command)
    {
        for (int i = 0; i < arguments.Length && arguments[i] != "--"; i++)
        {
            string word = arguments[i];
            if (word.Length < 2 || word[0] != '-')
            {
                continue;
            }

            int end = word.IndexOfAny(['=', ':']);
            string name = end < 0 ? word : word[..end];
            Option option = options.Find(known => known.Name == name || known.Aliases.Contains(name)) ?? throw Unknown(options, name, command);
            i += end < 0 && option.Arity.MinimumNumberOfValues > 0 ? 1 : 0;
        }
    }

    private static UsageException Unknown(List<Option> options, string name, string command)
    {
        string[] known = [.. options.SelectMany(option => option.Aliases.Prepend(option.Name)).Where(word => word[0] == '-' && word.Length > 2)];
        return new UsageException($"unknown option '{name}'", $"{NearMatch.Hint(name, known)}\nSee '{command} --help'.");
    }
}
