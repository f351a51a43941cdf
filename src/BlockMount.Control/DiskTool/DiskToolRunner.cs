using BlockMount.Base;

namespace BlockMount.Control.DiskTool;

/// <summary>
/// The commands of QEMU's disk tool, qemu-io, for tests and for looking into disks: what it is told and what it answers are the same (FEATURES H14). Stateless; any thread.
/// </summary>
internal static class DiskToolRunner
{
    private static readonly DiskToolCommand[] s_commands =
    [
        .. DiskToolTransfers.Commands().Concat(DiskToolQueries.Commands())
            .Append(new DiskToolCommand(["help", "?"], 0, 1, "", "[command]", "tells of one or all commands", (_, options) => new ValueTask<string>(Help(options.Rest))))
            .OrderBy(command => command.Name, StringComparer.Ordinal),
    ];

    /// <summary>Carries out one line. What is wrong, or fails, is part of the text.</summary>
    internal static async ValueTask<string> RunAsync(DiskToolTarget target, string line)
    {
        string[] words = line.Split(' ', StringSplitOptions.RemoveEmptyEntries);
        if (words.Length == 0)
        {
            return "";
        }

        DiskToolCommand? command = Array.Find(s_commands, candidate => candidate.Names.Contains(words[0]));
        if (command is null)
        {
            return $"command \"{words[0]}\" not found\n";
        }

        int count = words.Length - 1;
        if (count < command.WordsMin || (command.WordsMax >= 0 && count > command.WordsMax))
        {
            return $"bad argument count {count} to {command.Name}, expected {command.WordsExpected}\n";
        }

        return await RunAsync(target, command, words[1..]);
    }

    private static async ValueTask<string> RunAsync(DiskToolTarget target, DiskToolCommand command, string[] words)
    {
        try
        {
            return await command.Run(target, DiskToolOptions.Parse(command, words));
        }
        catch (DiskToolException error)
        {
            return error.Message;
        }
        catch (DiskToolUsageException)
        {
            return command.HelpLine;
        }
        catch (BlockIOException error)
        {
            return $"{Verb(command)} failed: {ErrnoText.Describe(error.Errno)}\n";
        }
        catch (BlockMountException error)
        {
            return error.Message + "\n";
        }
    }

    private static string Verb(DiskToolCommand command) => command.Name switch
    {
        "readv" or "aio_read" => "read",
        "writev" or "aio_write" => "write",
        var name => name,
    };

    private static string Help(IReadOnlyList<string> words)
    {
        if (words.Count == 0)
        {
            return string.Concat(s_commands.Select(command => command.HelpLine)) + "\nUse 'help commandname' for extended help.\n";
        }

        return Array.Find(s_commands, command => command.Names.Contains(words[0]))?.HelpLine ?? $"command {words[0]} not found\n";
    }
}
