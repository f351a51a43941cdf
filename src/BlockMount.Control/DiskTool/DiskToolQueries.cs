using System.Globalization;
using System.Text;
using BlockMount.Block.Graph;
using BlockMount.Block.Nodes;
using BlockMount.Control.Commands;
using BlockMount.Control.Hmp;

namespace BlockMount.Control.DiskTool;

/// <summary>Commands that tell of an image, change its size, or wait.</summary>
internal static class DiskToolQueries
{
    internal static IEnumerable<DiskToolCommand> Commands()
    {
        yield return new DiskToolCommand(
            ["alloc"], 1, 2, "", "offset [count]", "tells how many bytes the image itself holds", (target, options) => AllocatedAsync(target, options.Rest));
        yield return new DiskToolCommand(["info", "i"], 0, 0, "", "", "tells of the image's format", (target, _) => InfoAsync(target));
        yield return new DiskToolCommand(
            ["length", "l"], 0, 0, "", "", "tells the size of the disk", static (target, _) => new ValueTask<string>(DiskToolNumbers.Format(target.Size) + "\n"));
        yield return new DiskToolCommand(["map"], 0, 0, "", "", "tells which ranges the image itself holds", (target, _) => MapAsync(target));
        yield return new DiskToolCommand(["sleep"], 1, 1, "", "milliseconds", "waits; at most ten seconds", static (_, options) => SleepAsync(options.Rest[0]));
        yield return new DiskToolCommand(["truncate", "t"], 1, 1, "", "off", "changes the size of the disk", (target, options) => TruncateAsync(target, options.Rest[0]));
    }

    private static async ValueTask<string> AllocatedAsync(DiskToolTarget target, IReadOnlyList<string> words)
    {
        long offset = DiskToolNumbers.Parse(words[0]);
        long count = words.Count > 1 ? DiskToolNumbers.Parse(words[1]) : 512;
        count = Math.Clamp(target.Size - offset, 0, count);
        long allocated = 0;
        for (long at = offset; at < offset + count;)
        {
            (long length, bool isAllocated) = await RunAsync(target, at, offset + count);
            allocated += isAllocated ? length : 0;
            at += length;
        }

        return $"{allocated}/{count} bytes allocated at offset {DiskToolNumbers.Format(offset)}\n";
    }

    private static async ValueTask<string> MapAsync(DiskToolTarget target)
    {
        StringBuilder text = new();
        for (long at = 0; at < target.Size;)
        {
            (long length, bool isAllocated) = await RunAsync(target, at, target.Size);
            _ = text.Append(
                CultureInfo.InvariantCulture,
                $"{DiskToolNumbers.Format(length)} (0x{length:x}) bytes {(isAllocated ? "    allocated" : "not allocated")} at offset {DiskToolNumbers.Format(at)} (0x{at:x})\n");
            at += length;
        }

        return text.ToString();
    }

    // All that follows and is alike.
    private static async ValueTask<(long Length, bool IsAllocated)> RunAsync(DiskToolTarget target, long offset, long end)
    {
        BlockStatus first = await target.StatusAsync(offset, end - offset);
        bool isAllocated = IsAllocated(target.Node, first);
        long at = offset + first.Length;
        while (at < end)
        {
            BlockStatus next = await target.StatusAsync(at, end - at);
            if (IsAllocated(target.Node, next) != isAllocated)
            {
                break;
            }

            at += next.Length;
        }

        return (at - offset, isAllocated);
    }

    // An image that nothing can show through holds all of its disk, holes as well.
    private static bool IsAllocated(Node node, BlockStatus status)
    {
        while (node is FilterNode filter)
        {
            node = filter.Child;
        }

        return !node.SupportsBacking || status.Depth == 1;
    }

    private static async ValueTask<string> InfoAsync(DiskToolTarget target)
    {
        NodeReport report = await target.ReportAsync();
        long cluster = report.ClusterSize > 1 ? report.ClusterSize : 0;
        return $"format name: {report.Driver}\ncluster size: {DiskToolNumbers.Format(cluster)}\nvm state offset: {DiskToolNumbers.Format(StateOffset(report, cluster))}\n"
            + HmpImageText.Specific(NodeFacts.OfNode(report, []).Object("image")!);
    }

    // Where qcow2 would keep the state of a machine: behind the last L2 table of the disk.
    private static long StateOffset(NodeReport report, long cluster)
    {
        if (report.Qcow2 is not { } qcow2)
        {
            return 0;
        }

        long covered = cluster / (qcow2.ExtendedL2 ? 16 : 8) * cluster;
        return (report.Size + covered - 1) / covered * covered;
    }

    private static async ValueTask<string> TruncateAsync(DiskToolTarget target, string size)
    {
        long bytes = DiskToolNumbers.Parse(size);
        if (target.ReadOnly)
        {
            throw new DiskToolException("Block node is read-only\n");
        }

        if (target.Node is NullNode)
        {
            throw new DiskToolException("Image format driver does not support resize\n");
        }

        await target.ResizeAsync(bytes);
        return "";
    }

    private static async ValueTask<string> SleepAsync(string text)
    {
        if (!int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out int milliseconds))
        {
            throw new DiskToolException($"{text} is not a valid number\n");
        }

        // No other command is carried out meanwhile.
        await Task.Delay(Math.Min(milliseconds, 10_000));
        return "";
    }
}
