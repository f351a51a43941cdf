using System.CommandLine;
using BlockMount.Base;
using BlockMount.Formats;
using BlockMount.Formats.Qcow2.Check;
using BlockMount.Formats.Qcow2.Repair;
using BlockMount.Storage;

namespace BlockMount.Daemon.Cli;

/// <summary>
/// 'blockmount check': checks a qcow2 image and repairs it, with the options, words and exit codes of qemu-img check. Takes its locks too: of a reader,
/// or with -r those of a writer.
/// </summary>
public static class CheckCommand
{
    private const int UnsupportedFormat = 63;

    /// <summary>The command for the tree; images are opened through <paramref name="files"/>. Failures leave as exceptions.</summary>
    public static Command Build(IStorageOpener files)
    {
        Argument<string> file = new("IMAGE") { Description = "the image" };
        Option<string?> format = new("-f", "--format") { Description = "raw or qcow2; by default recognised", HelpName = "FMT" };
        Option<string?> repair = new("-r", "--repair") { Description = "repair: leaks, or all", HelpName = "WHAT" };
        repair.AcceptOnlyFromAmong("leaks", "all");
        Option<string> output = new("--output") { Description = "human or json", HelpName = "FMT", DefaultValueFactory = _ => "human" };
        output.AcceptOnlyFromAmong("human", "json");
        Option<bool> forceShare = new("-U", "--force-share") { Description = "check an image that others are writing; expect false findings" };
        Option<bool> progress = new("-p", "--progress") { Description = "show how much is done" };
        Option<bool> quiet = new("-q", "--quiet") { Description = "print nothing but errors" };
        Option<string?> undoFile = new("--undo-file") { Description = "where a repair saves what it overwrites (default: IMAGE.check-undo)", HelpName = "FILE" };
        Option<string?> undo = new("--undo") { Description = "take a repair back: restore IMAGE from this file", HelpName = "FILE" };
        Command command = new("check", "Check an image, and repair it.") { file, format, repair, output, forceShare, progress, quiet, undoFile, undo };
        command.SetAction((parsed, _) => RunAsync(files, parsed.InvocationConfiguration.Output, parsed.InvocationConfiguration.Error, new CheckArguments
        {
            FileName = parsed.GetRequiredValue(file),
            Format = parsed.GetValue(format),
            Repair = parsed.GetValue(repair) switch { null => null, "leaks" => RepairMode.Leaks, _ => RepairMode.All },
            Json = parsed.GetValue(output) == "json",
            ForceShare = parsed.GetValue(forceShare),
            Progress = parsed.GetValue(progress),
            Quiet = parsed.GetValue(quiet),
            UndoFile = parsed.GetValue(undoFile),
            Undo = parsed.GetValue(undo),
        }));
        return command;
    }

    private static async Task<int> RunAsync(IStorageOpener files, TextWriter output, TextWriter error, CheckArguments arguments)
    {
        Refuse(arguments);
        bool readOnly = arguments.Repair is null && arguments.Undo is null;
        StorageOpenOptions options = new() { ReadOnly = readOnly, ForceShare = arguments.ForceShare };
        await using StorageFile image = await files.OpenAsync(arguments.FileName, options);
        if ((arguments.Format ?? await FormatProber.ProbeAsync(image)) != "qcow2")
        {
            error.WriteLine("blockmount: This image format does not support checks");
            return UnsupportedFormat;
        }

        return arguments.Undo is not null
            ? await UndoAsync(files, output, image, arguments)
            : arguments.Repair is { } mode
                ? await RepairAsync(output, error, image, mode, arguments)
                : await CheckAsync(output, error, image, arguments);
    }

    private static void Refuse(CheckArguments arguments)
    {
        if (arguments.Format is not (null or "raw" or "qcow2"))
        {
            throw new UsageException($"'{arguments.Format}' is not a format", "Formats: raw, qcow2");
        }

        if (arguments.Undo is not null && (arguments.Repair is not null || arguments.UndoFile is not null))
        {
            throw new UsageException("--undo restores an image; it cannot be used with -r or --undo-file", "See 'blockmount check --help'.");
        }

        if (arguments.Repair is not null && File.Exists(arguments.UndoFileName))
        {
            throw new BlockMountException(
                $"'{arguments.UndoFileName}' exists: it may be needed to take an earlier repair back",
                $"Undo that repair with 'blockmount check --undo {arguments.UndoFileName} {arguments.FileName}', remove the file, or name another with --undo-file");
        }
    }

    private static async Task<int> CheckAsync(TextWriter output, TextWriter error, StorageFile image, CheckArguments arguments)
    {
        CheckReport report = await ConsistencyCheck.RunAsync(image, OptionsFor(output, arguments));
        CheckText.WriteFindings(error, report, arguments);
        Print(output, report, damage: report.Damage, arguments);
        return ExitCode(error, report);
    }

    private static async Task<int> RepairAsync(TextWriter output, TextWriter error, StorageFile image, RepairMode mode, CheckArguments arguments)
    {
        await using UndoLog log = new(() => UndoFileCreation.CreateAsync(arguments.UndoFileName));
        UndoRecordingFile recorded = new(image, log);
        RepairResult result = await ImageRepair.RunAsync(recorded, mode, OptionsFor(output, arguments));
        await log.SealAsync(image);
        CheckText.WriteFindings(error, result.Before, arguments);
        if (!arguments.Json && !arguments.Quiet)
        {
            CheckText.WriteRepair(output, result, log.IsStarted ? arguments.UndoFileName : null);
        }

        Print(output, result.After, result.Before.Damage, arguments);
        if (result.Refused is { } reason)
        {
            error.WriteLine($"blockmount: Check failed: {reason}");
            return ExitCodes.Failure;
        }

        return ExitCode(error, result.After);
    }

    private static async Task<int> UndoAsync(IStorageOpener files, TextWriter output, StorageFile image, CheckArguments arguments)
    {
        await using StorageFile undo = await files.OpenAsync(arguments.Undo!, new StorageOpenOptions());
        await RepairUndo.RestoreAsync(undo, image);
        if (!arguments.Quiet)
        {
            output.WriteLine($"'{arguments.FileName}' is as it was before the repair.");
        }

        return ExitCodes.Success;
    }

    private static void Print(TextWriter output, CheckReport report, GuestDamage damage, CheckArguments arguments)
    {
        if (!arguments.Quiet)
        {
            output.Write(arguments.Json ? CheckJson.Write(report, damage, arguments.FileName) : CheckText.Write(report, damage, arguments.FileName));
        }
    }

    private static int ExitCode(TextWriter error, CheckReport report)
    {
        if (report.CheckErrors > 0)
        {
            error.WriteLine("blockmount: Check failed");
        }

        return report.ExitCode;
    }

    // As qemu-img's other commands show it. Not into JSON, which programs read.
    private static CheckOptions OptionsFor(TextWriter output, CheckArguments arguments)
    {
        if (!arguments.Progress || arguments.Json || arguments.Quiet)
        {
            return new CheckOptions();
        }

        int shown = -1;
        return new CheckOptions
        {
            Progress = part =>
            {
                int hundredths = (int)(part * 10000);
                if (hundredths / 10 != shown / 10 || hundredths == 10000)
                {
                    shown = hundredths;
                    output.Write(FormattableString.Invariant($"    ({part * 100:0.00}/100%)\r"));
                    output.Write(hundredths == 10000 ? "\n" : "");
                    output.Flush();
                }
            },
        };
    }
}
