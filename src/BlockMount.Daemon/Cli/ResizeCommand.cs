using System.CommandLine;
using BlockMount.Base;
using BlockMount.Block.Graph;
using BlockMount.Block.Nodes;
using BlockMount.Formats;
using BlockMount.Storage;

namespace BlockMount.Daemon.Cli;

/// <summary>
/// 'blockmount resize': gives the disk of an image that nobody uses another size, with the options and words of qemu-img resize. A raw
/// image must be called raw: its first bytes are the guest's, who could make it look like something else (RELIABILITY S9).
/// </summary>
public static class ResizeCommand
{
    /// <summary>The command for the tree; images are opened through <paramref name="files"/>. Failures leave as exceptions.</summary>
    public static Command Build(IStorageOpener files)
    {
        Argument<string> file = new("FILE") { Description = "the image" };
        Argument<string> size = new("SIZE") { Description = "the new size, or with a sign the change: bytes, or with a suffix as 512M, +1.5T, -10G" };
        Option<string?> format = new("-f", "--format") { Description = "raw or qcow2; qcow2 is recognised, raw must be said", HelpName = "FMT" };
        Option<string?> preallocation = new("--preallocation") { Description = "of the new space: off, metadata, falloc, full", HelpName = "MODE" };
        Option<bool> shrink = new("--shrink") { Description = "agree to lose what lies behind the new end" };
        Option<bool> quiet = new("-q", "--quiet") { Description = "print nothing" };
        Command command = new("resize", "Change the size of an image's disk.") { file, size, format, preallocation, shrink, quiet };
        command.SetAction((parsed, _) => RunAsync(files, parsed.InvocationConfiguration.Output, new ResizeArguments
        {
            FileName = parsed.GetRequiredValue(file),
            Size = parsed.GetRequiredValue(size),
            Format = parsed.GetValue(format),
            Preallocation = PreallocationOf(parsed.GetValue(preallocation)),
            Shrink = parsed.GetValue(shrink),
            Quiet = parsed.GetValue(quiet),
        }));
        return command;
    }

    /// <summary>As qemu-img: the last word of 'resize' is the size even when it begins with a minus.</summary>
    internal static string[] WithSizeAsArgument(string[] arguments) =>
        arguments is ["resize", .., ['-', >= '0' and <= '9', ..] size] && !arguments.Contains("--") ? [.. arguments[..^1], "--", size] : arguments;

    private static async Task<int> RunAsync(IStorageOpener files, TextWriter output, ResizeArguments arguments)
    {
        SizeChange change = SizeChange.Parse(arguments.Size);
        // With its backing files: new space over a longer one is hidden.
        var opener = new ChainOpener(files, new OpenPolicy());
        Node node = await opener.OpenAsync(arguments.FileName, new ChainOpenOptions { Format = arguments.Format });
        await using (node)
        {
            long size = change.From(node.Size);
            Check(arguments, node.Size, size);
            await node.ResizeAsync(size, arguments.Preallocation);
        }

        if (!arguments.Quiet)
        {
            output.WriteLine("Image resized.");
        }

        return 0;
    }

    private static void Check(ResizeArguments arguments, long oldSize, long size)
    {
        if (size < oldSize && arguments.Preallocation != Preallocation.Off)
        {
            throw new BlockMountException("Preallocation can only be used for growing images");
        }

        if (size < oldSize && !arguments.Shrink)
        {
            throw new BlockMountException(
                "Use the --shrink option to perform a shrink operation",
                $"That deletes everything behind the new end of {size} bytes (the disk has {oldSize}). Shrink the file systems inside first");
        }
    }

    private static Preallocation PreallocationOf(string? mode) => mode switch
    {
        null or "off" => Preallocation.Off,
        "metadata" => Preallocation.Metadata,
        "falloc" => Preallocation.Falloc,
        "full" => Preallocation.Full,
        _ => throw new BlockMountException($"Invalid preallocation mode '{mode}'", "Possible: off, metadata, falloc, full"),
    };

    private sealed record ResizeArguments
    {
        public required string FileName { get; init; }
        public required string Size { get; init; }
        public string? Format { get; init; }
        public Preallocation Preallocation { get; init; }
        public bool Shrink { get; init; }
        public bool Quiet { get; init; }
    }

    /// <summary>A size in bytes: absolute, or a change of the present one.</summary>
    private readonly record struct SizeChange(int Sign, long Bytes)
    {
        public static SizeChange Parse(string text)
        {
            int sign = text.Length == 0 ? 0 : text[0] switch { '+' => 1, '-' => -1, _ => 0 };
            return ByteSize.TryParse(text.AsSpan(Math.Abs(sign)), out long bytes)
                ? new SizeChange(sign, bytes)
                : throw new BlockMountException(
                    $"Invalid image size specified: '{text}'", "Give bytes, or a number with the suffix k, M, G, T, P or E (powers of 1024), as 1.5G");
        }

        public long From(long oldSize)
        {
            Int128 size = Sign == 0 ? Bytes : oldSize + (Int128)Sign * Bytes;
            return size > 0 && size <= long.MaxValue ? (long)size : throw new BlockMountException("New image size must be positive");
        }
    }
}
