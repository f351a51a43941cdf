using System.CommandLine;
using BlockMount.Storage;

namespace BlockMount.Daemon.Cli;

/// <summary>'blockmount create': makes an image, with the options and words of qemu-img create.</summary>
public static class CreateCommand
{
    /// <summary>The command for the tree; images are opened through <paramref name="files"/>. Failures leave as exceptions.</summary>
    public static Command Build(IStorageOpener files)
    {
        Argument<string> file = new("FILE") { Description = "the new image; an existing one is replaced unless it is in use" };
        Argument<string?> size = new("SIZE")
        {
            Description = "bytes, or with a suffix as 512M, 1.5T; by default the backing file's",
            Arity = ArgumentArity.ZeroOrOne,
        };
        Option<string> format = new("-f", "--format") { Description = "raw or qcow2", HelpName = "FMT", DefaultValueFactory = _ => "raw" };
        Option<string[]> options = new("-o", "--options") { Description = "name=value,...; '-o help' lists the names", HelpName = "OPTIONS" };
        Option<string?> backing = new("-b", "--backing") { Description = "backing file, relative to the new image's directory", HelpName = "FILE" };
        Option<string?> backingFormat = new("-F", "-B", "--backing-format")
        {
            Description = "format of the backing file; qcow2 is recognised, raw must be said",
            HelpName = "FMT",
        };
        Option<bool> trust = new("-u", "--unsafe") { Description = "do not look at the backing file" };
        Option<bool> quiet = new("-q", "--quiet") { Description = "print nothing" };
        Command command = new("create", "Make an image.") { file, size, format, options, backing, backingFormat, trust, quiet };
        command.SetAction((parsed, _) => RunAsync(files, parsed.InvocationConfiguration.Output, new CreateArguments
        {
            FileName = parsed.GetRequiredValue(file),
            Size = parsed.GetValue(size),
            Format = parsed.GetValue(format)!,
            Options = parsed.GetValue(options) ?? [],
            BackingFile = parsed.GetValue(backing),
            BackingFormat = parsed.GetValue(backingFormat),
            Unsafe = parsed.GetValue(trust),
            Quiet = parsed.GetValue(quiet),
        }));
        return command;
    }

    private static async Task<int> RunAsync(IStorageOpener files, TextWriter output, CreateArguments arguments)
    {
        if (arguments.Options.Any(list => list is "help" or "?"))
        {
            output.WriteLine($"Supported options for {arguments.Format}:");
            foreach (string name in CreateOptionList.NamesFor(arguments.Format))
            {
                output.WriteLine($"  {name}");
            }

            return 0;
        }

        CreateRequest request = await CreateRequest.ResolveAsync(arguments, files);
        if (!arguments.Quiet)
        {
            output.WriteLine(request.EchoLine());
        }

        await CreateTarget.WriteAsync(files, arguments.FileName, request.Hints, image => request.DataPath is null
            ? request.WriteAsync(image, dataFile: null)
            : CreateTarget.WriteAsync(files, request.DataPath, request.Hints, data => request.WriteAsync(image, data)));
        return 0;
    }
}
