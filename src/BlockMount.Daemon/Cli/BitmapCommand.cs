using System.CommandLine;
using System.CommandLine.Parsing;
using System.Numerics;
using BlockMount.Base;
using BlockMount.Block.Graph;
using BlockMount.Formats;
using BlockMount.Formats.Qcow2;
using BlockMount.Formats.Qcow2.Bitmaps;
using BlockMount.Storage;

namespace BlockMount.Daemon.Cli;

/// <summary>
/// 'blockmount bitmap': changes persistent bitmaps of an image that nobody uses, with the options and words of qemu-img bitmap. Actions run in the order of the
/// command line.
/// </summary>
public static class BitmapCommand
{
    private const int GranularityMin = 512;
    private const int DefaultGranularityMin = 4096;
    private const int DefaultGranularityMax = 65536;

    /// <summary>The command for the tree; images are opened through <paramref name="files"/>. Failures leave as exceptions.</summary>
    public static Command Build(IStorageOpener files)
    {
        Argument<string> file = new("FILE") { Description = "the image" };
        Argument<string> name = new("BITMAP") { Description = "name of the bitmap" };
        Option<bool> add = new("--add") { Description = "make an empty bitmap that records" };
        Option<bool> remove = new("--remove") { Description = "remove it; also one that is inconsistent" };
        Option<bool> clear = new("--clear") { Description = "forget what it recorded" };
        Option<bool> enable = new("--enable") { Description = "make it record" };
        Option<bool> disable = new("--disable") { Description = "make it stop recording" };
        Option<string[]> merge = new("--merge") { Description = "add what the bitmap SOURCE recorded", HelpName = "SOURCE" };
        Option<string?> granularity = new("-g", "--granularity") { Description = "bytes per bit, with --add", HelpName = "BYTES" };
        Option<string?> sourceFile = new("-b", "--source-file") { Description = "the image that SOURCE is in", HelpName = "FILE" };
        Option<string?> sourceFormat = new("-F", "--source-format") { Description = "its format", HelpName = "FMT" };
        Option<string?> format = new("-f", "--format") { Description = "qcow2; recognised by default", HelpName = "FMT" };
        Command command = new("bitmap", "Change persistent bitmaps.")
        {
            file, name, add, remove, clear, enable, disable, merge, granularity, sourceFile, sourceFormat, format,
        };
        command.SetAction((parsed, _) => RunAsync(files, new BitmapArguments
        {
            FileName = parsed.GetRequiredValue(file),
            Name = parsed.GetRequiredValue(name),
            Actions = ActionsOf(parsed.Tokens),
            Sources = parsed.GetValue(merge) ?? [],
            Granularity = parsed.GetValue(granularity),
            SourceFile = parsed.GetValue(sourceFile),
            SourceFormat = parsed.GetValue(sourceFormat),
            Format = parsed.GetValue(format),
        }));
        return command;
    }

    private static List<string> ActionsOf(IReadOnlyList<Token> tokens) =>
        [.. tokens.Where(token => token.Type == TokenType.Option)
            .Select(token => token.Value)
            .Where(word => word is "--add" or "--remove" or "--clear" or "--enable" or "--disable" or "--merge")
            .Select(word => word[2..])];

    private static async Task<int> RunAsync(IStorageOpener files, BitmapArguments arguments)
    {
        Check(arguments);
        Qcow2Driver driver = await OpenAsync(files, arguments.FileName, arguments.Format, readOnly: false);
        await using (driver)
        {
            if (driver.Bitmaps!.Problem is { } problem)
            {
                ErrorReport.Warn($"the bitmaps of '{arguments.FileName}' are lost: {problem}. 'blockmount check -r leaks' frees their space");
            }

            var sources = new Queue<string>(arguments.Sources);
            foreach (string action in arguments.Actions)
            {
                try
                {
                    await RunActionAsync(files, driver, arguments, action, sources);
                }
                catch (BlockMountException e)
                {
                    throw new BlockMountException($"Operation {action} on bitmap {arguments.Name} failed: {e.Message}", e.Hint, e);
                }
            }
        }

        return 0;
    }

    private static void Check(BitmapArguments arguments)
    {
        if (arguments.Actions.Count == 0)
        {
            throw new BlockMountException("Need at least one of --add, --remove, --clear, --enable, --disable, or --merge");
        }

        if (arguments.Granularity is not null && !arguments.Actions.Contains("add"))
        {
            throw new BlockMountException("granularity only supported with --add");
        }

        if (arguments.SourceFile is not null && !arguments.Actions.Contains("merge"))
        {
            throw new BlockMountException("Merge bitmap source file only supported with --merge");
        }
    }

    private static async ValueTask RunActionAsync(
        IStorageOpener files, Qcow2Driver driver, BitmapArguments arguments, string action, Queue<string> sources)
    {
        PersistentBitmapStore bitmaps = driver.Bitmaps!;
        switch (action)
        {
            case "add":
                await bitmaps.AddAsync(arguments.Name, GranularityBits(arguments, driver.ClusterSize), auto: true);
                break;
            case "remove":
                await bitmaps.RemoveAsync(arguments.Name);
                break;
            case "clear":
                await bitmaps.ClearAsync(arguments.Name);
                break;
            case "merge":
                await MergeAsync(files, driver, arguments, sources.Dequeue());
                break;
            default:
                await bitmaps.SetAutoAsync(arguments.Name, auto: action == "enable");
                break;
        }
    }

    private static async ValueTask MergeAsync(IStorageOpener files, Qcow2Driver driver, BitmapArguments arguments, string sourceName)
    {
        if (arguments.SourceFile is null)
        {
            StoredBitmap own = Find(driver.Bitmaps!.Bitmaps, sourceName);
            await driver.Bitmaps.MergeAsync(arguments.Name, driver.Bitmaps.OpenReader(sourceName), own.GranularityBits);
            return;
        }

        await using Qcow2Driver source = await OpenAsync(files, arguments.SourceFile, arguments.SourceFormat, readOnly: true);
        if (source.VirtualSize != driver.VirtualSize)
        {
            throw new BlockMountException(
                $"Bitmaps are of different sizes (destination size is {driver.VirtualSize}, source size is {source.VirtualSize}) and can't be merged");
        }

        StoredBitmap bitmap = Find((await source.LoadBitmapsAsync()).Bitmaps, sourceName);
        if (!bitmap.IsConsistent)
        {
            throw PersistentBitmapStore.Inconsistent(sourceName, arguments.SourceFile);
        }

        await driver.Bitmaps!.MergeAsync(arguments.Name, source.OpenBitmap(bitmap), bitmap.GranularityBits);
    }

    private static StoredBitmap Find(IReadOnlyList<StoredBitmap> bitmaps, string name) =>
        bitmaps.FirstOrDefault(bitmap => bitmap.Name == name) ?? throw PersistentBitmapStore.NotFound(name);

    // As QEMU: a cluster, within bounds.
    private static int GranularityBits(BitmapArguments arguments, int clusterSize)
    {
        if (arguments.Granularity is null)
        {
            return BitOperations.Log2((uint)Math.Clamp(clusterSize, DefaultGranularityMin, DefaultGranularityMax));
        }

        return ByteSize.TryParse(arguments.Granularity, out long bytes) && bytes >= GranularityMin && bytes <= 1L << 31 && BitOperations.IsPow2(bytes)
            ? BitOperations.Log2((ulong)bytes)
            : throw new BlockMountException("Granularity must be power of 2 and at least 512", "And at most 2 GiB");
    }

    // The image alone, with its data file: bitmaps do not depend on backing files.
    private static async ValueTask<Qcow2Driver> OpenAsync(IStorageOpener files, string path, string? format, bool readOnly)
    {
        var options = new ChainOpenOptions { ReadOnly = readOnly, Format = format, FormatWhenUnknown = "raw" };
        await using BackingChain chain = new(files, new OpenPolicy(), options);
        await chain.OpenTopAsync(path);
        if (chain.Links[0].Header is null)
        {
            throw new BlockMountException($"Can't store persistent bitmaps to '{path}', a raw image");
        }

        await chain.OpenDataFileAsync();
        var driverOptions = new Qcow2OpenOptions { ReadOnly = readOnly, DataFile = chain.DataFileOf(0) };
        Qcow2Driver driver = await Qcow2Driver.OpenAsync(chain.Links[0].File, driverOptions);
        chain.TakeFile(0);
        return driver;
    }

    private sealed record BitmapArguments
    {
        public required string FileName { get; init; }
        public required string Name { get; init; }

        /// <summary>In the order of the command line: "add", "merge", ...</summary>
        public required List<string> Actions { get; init; }

        /// <summary>One for each "merge".</summary>
        public required string[] Sources { get; init; }
        public string? Granularity { get; init; }
        public string? SourceFile { get; init; }
        public string? SourceFormat { get; init; }
        public string? Format { get; init; }
    }
}
