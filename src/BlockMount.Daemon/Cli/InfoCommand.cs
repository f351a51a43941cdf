using System.CommandLine;
using BlockMount.Base;
using BlockMount.Block.Graph;
using BlockMount.Formats;
using BlockMount.Storage;

namespace BlockMount.Daemon.Cli;

/// <summary>
/// 'blockmount info': what an image says of itself. Opens the one file that was named, and others only with
/// --backing-chain. Needs no lock: an image that is in use is shown with a note.
/// </summary>
public static class InfoCommand
{
    /// <summary>The command for the tree; images are opened through <paramref name="files"/>. Failures leave as exceptions.</summary>
    public static Command Build(IStorageOpener files)
    {
        Argument<string> file = new("FILE") { Description = "the image" };
        Option<string?> format = new("-f", "--format") { Description = "raw or qcow2; by default recognised", HelpName = "FMT" };
        Option<bool> backingChain = new("--backing-chain") { Description = "all images of the chain" };
        Option<string> output = new("--output") { Description = "human or json", HelpName = "FMT", DefaultValueFactory = _ => "human" };
        output.AcceptOnlyFromAmong("human", "json");
        Option<bool> json = new("--json", "-J") { Description = "as --output json" };
        Option<bool> forceShare = new("-U", "--force-share") { Description = "do not even try to lock" };
        Command command = new("info", "Show what an image is.") { file, format, backingChain, output, json, forceShare };
        command.SetAction((parsed, _) => RunAsync(
            new LockTolerantOpener(files),
            parsed.InvocationConfiguration.Output,
            parsed.GetRequiredValue(file),
            new ChainOpenOptions
            {
                Format = parsed.GetValue(format),
                FormatWhenUnknown = "raw",
                ReadOnly = true,
                ForceShare = parsed.GetValue(forceShare),
            },
            parsed.GetValue(backingChain),
            parsed.GetValue(json) || parsed.GetValue(output) == "json"));
        return command;
    }

    private static async Task<int> RunAsync(
        LockTolerantOpener files, TextWriter output, string path, ChainOpenOptions options, bool wholeChain, bool json)
    {
        var policy = new OpenPolicy();
        await using var chain = new BackingChain(files, policy, options);
        await chain.OpenTopAsync(path);
        BlockMountException? broken = wholeChain ? await OpenRestAsync(chain) : null;
        var images = new List<InspectedImage>();
        foreach (ChainLink link in chain.Links)
        {
            ImageInfo image = await ImageInfo.LoadAsync(link.File, link.Path, link.Format);
            if (image.Bitmaps.Problem is { } problem)
            {
                ErrorReport.Warn($"the bitmaps of '{link.Path}' are lost: {problem}");
            }

            images.Add(new InspectedImage(image, BackingPath(policy, image), files.Live.Contains(link.Path)));
        }

        string text = json ? InfoJson.Write(images, asArray: wholeChain) : InfoText.Write(images);
        output.Write(text);
        // Last, so that what could be read is there before the broken link ends the program.
        return broken is null ? 0 : throw broken;
    }

    private static async ValueTask<BlockMountException?> OpenRestAsync(BackingChain chain)
    {
        try
        {
            while (await chain.OpenNextAsync())
            {
            }

            return null;
        }
        catch (BlockMountException e)
        {
            return e;
        }
    }

    // Only a name for people and scripts here; a refused reference has none.
    private static string? BackingPath(OpenPolicy policy, ImageInfo image)
    {
        try
        {
            return image.Backing is { } backing ? policy.ResolveReference(image.FileName, backing) : null;
        }
        catch (ImageFormatException)
        {
            return null;
        }
    }

    /// <summary>Opens without a lock what is locked, and remembers that.</summary>
    private sealed class LockTolerantOpener(IStorageOpener files) : IStorageOpener
    {
        public HashSet<string> Live { get; } = [];

        public async ValueTask<StorageFile> OpenAsync(string path, StorageOpenOptions options)
        {
            if (options.ForceShare)
            {
                return await files.OpenAsync(path, options);
            }

            try
            {
                return await files.OpenAsync(path, options);
            }
            catch (BlockMountException)
            {
                // If the lock was not the reason, this fails for the same reason again, and that one is told.
                StorageFile file = await files.OpenAsync(path, options with { ForceShare = true });
                Live.Add(path);
                return file;
            }
        }
    }
}

/// <summary>One image of the answer.</summary>
/// <param name="BackingPath">Where the backing file is looked for; null if there is none or the reference is refused.</param>
/// <param name="IsLive">Another program has it open for writing.</param>
internal sealed record InspectedImage(ImageInfo Image, string? BackingPath, bool IsLive);
