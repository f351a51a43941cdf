using System.CommandLine;
using BlockMount.Daemon.Registry;

namespace BlockMount.Daemon.Cli;

/// <summary>The form without a verb: blockmount IMAGE [MOUNTPOINT] [OPTIONS].</summary>
internal static class MountCommand
{
    // Instead of an address: the monitor is where the command was given.
    private const string Terminal = "stdio";

    private static readonly string[] s_formats = ["qcow2", "raw"];

    /// <summary>Reads the command line.</summary>
    /// <returns>What is asked for, and whether this process shall serve it itself.</returns>
    /// <exception cref="UsageException">The command line does not fit; nothing was opened.</exception>
    public static (MountRequest Request, bool Foreground) Parse(string[] arguments)
    {
        Argument<string> image = new("IMAGE");
        Argument<string?> mountPoint = new("MOUNTPOINT") { Arity = ArgumentArity.ZeroOrOne };
        Option<string[]> words = new("-o", "--options") { Arity = ArgumentArity.OneOrMore, AllowMultipleArgumentsPerToken = false };
        Option<bool> readOnly = new("--read-only", "-r");
        Option<bool> foreground = new("--foreground");
        Option<string?> nbd = new("--nbd");
        Option<string?> exportName = new("--export-name");
        Option<string?> qmp = new("--qmp");
        Option<string?> monitor = new("--monitor");
        Option<string?> format = new("--format", "-f");
        Option<string?> id = new("--id");
        Option<string?> logFile = new("--log-file");
        Option<bool> verbose = new("--verbose", "-v");
        Command command = new("blockmount") { image, mountPoint, words, readOnly, foreground, nbd, exportName, qmp, monitor, format, id, logFile, verbose };

        ParseResult parsed = Parsing.Parse(command, arguments);
        MountOptions start = new() { ReadOnly = parsed.GetValue(readOnly) };
        MountOptions options = MountOptionParser.Parse(parsed.GetValue(words) ?? [], start);
        MountRequest request = new()
        {
            Image = parsed.GetRequiredValue(image),
            MountPoint = parsed.GetValue(mountPoint),
            Id = parsed.GetValue(id),
            Format = parsed.GetValue(format),
            Nbd = parsed.GetValue(nbd) is { } address ? ListenAddress.Parse("--nbd", address) : null,
            ExportName = parsed.GetValue(exportName) ?? "",
            Qmp = parsed.GetValue(qmp) is { } machine ? ListenAddress.ParseMonitor("--qmp", machine) : null,
            HumanMonitor = parsed.GetValue(monitor) is { } human and not Terminal ? ListenAddress.ParseMonitor("--monitor", human) : null,
            MonitorInTerminal = parsed.GetValue(monitor) == Terminal,
            LogFile = parsed.GetValue(logFile),
            Verbose = parsed.GetValue(verbose),
            Options = options with { ReadOnly = options.ReadOnly || start.ReadOnly },
        };
        Check(request, parsed.GetValue(exportName) is not null);
        return (request, parsed.GetValue(foreground) || request.MonitorInTerminal);
    }

    private static void Check(MountRequest request, bool exportNameGiven)
    {
        if (request.Image.Length == 0)
        {
            throw new UsageException("the image's name is empty");
        }

        if (request.MountPoint is null && request.Nbd is null)
        {
            throw new UsageException(
                $"nowhere to serve '{request.Image}'",
                $"Name a file to show it as:  blockmount {request.Image} MOUNTPOINT\nor an NBD address:         blockmount {request.Image} --nbd unix:PATH");
        }

        if (exportNameGiven && request.Nbd is null)
        {
            throw new UsageException("--export-name needs --nbd", "Add --nbd unix:PATH or --nbd HOST:PORT.");
        }

        if (request.Options is { ReadOnly: true, Growable: true })
        {
            throw new UsageException("-o growable needs a writable disk", "Leave out growable or the read-only option.");
        }

        if (request.Options is { Snapshot: not null, ReadOnly: false })
        {
            throw new UsageException("-o snapshot=NAME can be shown read-only only", "Write -o ro,snapshot=NAME.");
        }

        CheckFormat(request.Format, "--format");
        CheckFormat(request.Options.BackingFormat, "-o backing_format");
        if (request.Id is not null && !DaemonRegistry.IsValidId(request.Id))
        {
            throw new UsageException($"--id '{request.Id}' cannot be used", "Use up to 64 letters, digits, '-', '_' and '.', beginning with a letter or digit.");
        }
    }

    private static void CheckFormat(string? format, string option)
    {
        if (format is not null && !s_formats.Contains(format))
        {
            throw new UsageException($"{option} '{format}' is not a format", NearMatch.Hint(format, s_formats));
        }
    }
}
