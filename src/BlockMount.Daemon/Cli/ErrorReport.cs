using BlockMount.Base;
using BlockMount.Base.Interop;

namespace BlockMount.Daemon.Cli;

/// <summary>
/// Tells failures to people: one line with what failed and why, then indented lines with what to do next. Stack traces
/// appear only when BLOCKMOUNT_DEBUG is set.
/// </summary>
internal static class ErrorReport
{
    private static readonly bool s_debug = Environment.GetEnvironmentVariable("BLOCKMOUNT_DEBUG") is { Length: > 0 };

    // Set by the daemon once standard error leads nowhere.
    private static Action<string>? s_crashLog;

    /// <summary>Prints the failure and returns the exit code that belongs to it.</summary>
    public static int Print(Exception error)
    {
        Console.Error.Write(Describe(error));
        return error is UsageException ? ExitCodes.Usage : ExitCodes.Failure;
    }

    /// <summary>The lines for people, each ended by a newline.</summary>
    public static string Describe(Exception error)
    {
        (string message, string? hint) = error switch
        {
            BlockMountException known => (known.Message, known.Hint),
            UnauthorizedAccessException or IOException => (error.Message.TrimEnd('.'), null),
            _ => ($"internal error: {error.GetType().Name}: {error.Message}",
                "This is a bug in blockmount. Run it again with BLOCKMOUNT_DEBUG=1 in the environment\n"
                + "and report what it prints, with the command and the output of 'blockmount info'."),
        };
        string text = $"blockmount: {message}\n";
        if (hint is not null)
        {
            text += $"  {hint.Replace("\n", "\n  ", StringComparison.Ordinal)}\n";
        }

        return s_debug ? text + error + "\n" : text;
    }

    /// <summary>A remark that does not stop the program.</summary>
    public static void Warn(string message) => Console.Error.WriteLine($"blockmount: warning: {message}");

    /// <summary>Where a crash is reported besides standard error.</summary>
    public static void SetCrashLog(Action<string> log) => s_crashLog = log;

    /// <summary>
    /// An exception that nobody caught still ends the program, but with words and an exit code instead of the runtime's
    /// trace and a core file. The locks go with the process; the mount is cleared by the next start.
    /// </summary>
    public static void InstallCrashHandler() =>
        AppDomain.CurrentDomain.UnhandledException += (_, args) =>
        {
            string text = args.ExceptionObject is Exception error ? Describe(error) : "blockmount: internal error\n";
            Console.Error.Write(text);
            s_crashLog?.Invoke(args.ExceptionObject.ToString() ?? text);
            LibcProcess._exit(ExitCodes.Failure);
        };
}
