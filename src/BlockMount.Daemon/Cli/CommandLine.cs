using System.CommandLine;
using System.CommandLine.Help;
using BlockMount.Daemon.Hosting;
using BlockMount.Daemon.Storage;

namespace BlockMount.Daemon.Cli;

/// <summary>
/// Decides between the two grammars: the first word is a verb, or it begins the form that mounts. An image that is called
/// like a verb is written './ls'. Failures of any kind leave here as words and an exit code.
/// </summary>
internal static class CommandLine
{
    private const int WidthMax = 79;

    private static readonly string[] s_verbs = ["umount", "unmount", "ls", "create", "resize", "amend", "bitmap", "info", "check", "snapshot", "qmp", "monitor", StorageCommand.Verb, "help"];

    /// <summary>The program's version, as 0.1.0.</summary>
    public static string Version => typeof(CommandLine).Assembly.GetName().Version?.ToString(3) ?? "";

    /// <summary>True if <paramref name="word"/> begins the second grammar.</summary>
    public static bool IsVerb(string word) => s_verbs.Contains(word);

    /// <summary>Runs one command line to its end.</summary>
    /// <param name="ready">Present in the daemon that a command started in the background.</param>
    public static int Run(string[] arguments, ReadyNotification? ready)
    {
        try
        {
            return Dispatch(arguments, ready);
        }
        catch (Exception error)
        {
            return ErrorReport.Print(error);
        }
    }

    private static int Dispatch(string[] arguments, ReadyNotification? ready)
    {
        if (arguments.Length == 0)
        {
            throw new UsageException("nothing to do", HelpText.Usage + "\nSee 'blockmount --help'.");
        }

        if (arguments[0] == StorageCommand.Verb)
        {
            return StorageCommand.Run(arguments[1..], ready);
        }

        if (IsVerb(arguments[0]) && arguments[0] != "help")
        {
            return RunVerb(arguments);
        }

        int end = Array.IndexOf(arguments, "--");
        string[] options = end < 0 ? arguments : arguments[..end];
        if (options.Contains("--help") || options.Contains("-h") || arguments[0] == "help")
        {
            Console.Out.WriteLine(HelpText.Full);
            return ExitCodes.Success;
        }

        if (options.Contains("--version"))
        {
            Console.Out.WriteLine($"blockmount {Version}");
            return ExitCodes.Success;
        }

        (MountRequest request, bool foreground) = MountCommand.Parse(arguments);
        return DaemonHost.RunAsync(request, foreground ? null : ready).GetAwaiter().GetResult();
    }

    // What follows a monitor's address is the monitor's to read: its words may begin with a dash.
    private static string[] WithLineAsArguments(string[] arguments) =>
        arguments.Length > 2 && arguments[0] is ("qmp" or "monitor") && !arguments[1].StartsWith('-') && arguments[2] is not ("--" or "--help" or "-h")
            ? [.. arguments[..2], "--", .. arguments[2..]]
            : arguments;

    private static int RunVerb(string[] arguments)
    {
        RootCommand root = new("Shows disk images as flat files and serves them over NBD.") { UmountCommand.Build(), LsCommand.Build(), QmpCommand.Build(), MonitorCommand.Build() };
        foreach (Command command in Composition.ImageCommands())
        {
            root.Subcommands.Add(command);
        }

        foreach (Option option in root.Options)
        {
            if (option is HelpOption { Action: HelpAction help })
            {
                help.MaxWidth = WidthMax;
            }
        }

        ParseResult parsed = Parsing.Parse(root, WithLineAsArguments(ResizeCommand.WithSizeAsArgument(arguments)));
        return parsed.Invoke(new InvocationConfiguration { EnableDefaultExceptionHandler = false, ProcessTerminationTimeout = null });
    }
}
