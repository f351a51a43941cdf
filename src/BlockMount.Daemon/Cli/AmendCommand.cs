using System.CommandLine;
using BlockMount.Base;
using BlockMount.Block.Graph;
using BlockMount.Block.Nodes;
using BlockMount.Formats;
using BlockMount.Formats.Qcow2.Amend;
using BlockMount.Storage;

namespace BlockMount.Daemon.Cli;

/// <summary>'blockmount amend': changes properties of an image that nobody uses, with the options and words of qemu-img amend.</summary>
public static class AmendCommand
{
    /// <summary>The command for the tree; images are opened through <paramref name="files"/>. Failures leave as exceptions.</summary>
    public static Command Build(IStorageOpener files)
    {
        Argument<string> file = new("FILE") { Description = "the image" };
        Option<string?> format = new("-f", "--format") { Description = "qcow2; recognised by default", HelpName = "FMT" };
        Option<string[]> options = new("-o", "--options") { Description = "name=value,...; '-o help' lists the names", HelpName = "OPTIONS" };
        Option<bool> progress = new("-p", "--progress") { Description = "show progress" };
        Option<bool> quiet = new("-q", "--quiet") { Description = "print nothing" };
        Command command = new("amend", "Change properties of an image.") { file, format, options, progress, quiet };
        command.SetAction((parsed, _) => RunAsync(
            files,
            parsed.InvocationConfiguration.Output,
            parsed.GetRequiredValue(file),
            parsed.GetValue(format),
            parsed.GetValue(options) ?? [],
            parsed.GetValue(progress) && !parsed.GetValue(quiet)));
        return command;
    }

    private static async Task<int> RunAsync(
        IStorageOpener files, TextWriter output, string path, string? format, string[] lists, bool progress)
    {
        if (lists.Any(list => list is "help" or "?"))
        {
            output.WriteLine("Amend options for 'qcow2':");
            foreach (string name in AmendOptionList.Names)
            {
                output.WriteLine($"  {name}");
            }

            return 0;
        }

        if (lists.Length == 0)
        {
            throw new BlockMountException("Must specify options (-o)", "See 'blockmount amend --help'");
        }

        AmendOptions options = AmendOptionList.Parse(lists);
        Report(output, progress, "0.00", '\r');
        await WithFileAsync(files, path, format, file => Qcow2Amend.ApplyAsync(file, options));
        if (options.Size is { } size)
        {
            await ResizeAsync(files, path, size);
        }

        if (options.Version == 2)
        {
            await WithFileAsync(files, path, format, Qcow2Amend.DowngradeAsync);
        }

        Report(output, progress, "100.00", '\n');
        return 0;
    }

    private static async ValueTask WithFileAsync(IStorageOpener files, string path, string? format, Func<StorageFile, ValueTask> action)
    {
        await using StorageFile file = await files.OpenAsync(path, new StorageOpenOptions());
        format ??= await FormatProber.ProbeAsync(file) ?? "raw";
        if (format == "raw")
        {
            throw new ImageFormatException("Format driver 'raw' does not support option amendment");
        }

        if (format != "qcow2")
        {
            throw ImageInfo.UnknownFormat(format);
        }

        await action(file);
    }

    // With the backing files: new space over a longer one is hidden.
    private static async ValueTask ResizeAsync(IStorageOpener files, string path, long size)
    {
        Node node = await new ChainOpener(files, new OpenPolicy()).OpenAsync(path, new ChainOpenOptions { Format = "qcow2" });
        await using (node)
        {
            await node.ResizeAsync(size);
        }
    }

    private static void Report(TextWriter output, bool progress, string percent, char end)
    {
        if (progress)
        {
            output.Write($"    ({percent}/100%){end}");
        }
    }
}
