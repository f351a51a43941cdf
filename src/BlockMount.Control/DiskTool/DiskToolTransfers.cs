using System.Diagnostics;
using BlockMount.Base;
using BlockMount.Formats;

namespace BlockMount.Control.DiskTool;

/// <summary>Commands that move bytes, or make them go away. Those that QEMU's tool carries out in the background (aio_) have ended when they return.</summary>
internal static class DiskToolTransfers
{
    // What is written where nothing is said.
    private const byte PatternDefault = 0xcd;

    internal static IEnumerable<DiskToolCommand> Commands()
    {
        yield return new DiskToolCommand(
            ["read", "r"], 2, -1, "abCl:pP:qs:v", "[-abCqv] [-P pattern [-s off] [-l len]] off len", "reads bytes and, with -P, compares them",
            (target, options) => ReadAsync(target, options, manyLengths: false));
        yield return new DiskToolCommand(
            ["readv"], 2, -1, "CP:qv", "[-Cqv] [-P pattern] off len [len..]", "reads bytes, as many as all lengths together", (target, options) => ReadAsync(target, options, manyLengths: true));
        yield return new DiskToolCommand(
            ["aio_read"], 2, -1, "CP:qv", "[-Cqv] [-P pattern] off len [len..]", "the same", (target, options) => ReadAsync(target, options, manyLengths: true));
        yield return new DiskToolCommand(
            ["write", "w"], 2, -1, "bcCfnpP:quz", "[-bcCfnquz] [-P pattern] off len", "writes bytes; -c compressed, -f to stable storage, -z zeros, -u as a hole",
            (target, options) => WriteAsync(target, options, manyLengths: false));
        yield return new DiskToolCommand(
            ["writev"], 2, -1, "CfP:q", "[-Cfq] [-P pattern] off len [len..]", "writes bytes, as many as all lengths together", (target, options) => WriteAsync(target, options, manyLengths: true));
        yield return new DiskToolCommand(
            ["aio_write"], 2, -1, "CfP:quz", "[-Cfquz] [-P pattern] off len [len..]", "the same", (target, options) => WriteAsync(target, options, manyLengths: true));
        yield return new DiskToolCommand(["discard", "d"], 2, -1, "Cq", "[-Cq] off len", "says that bytes are not needed any more", DiscardAsync);
        yield return new DiskToolCommand(["aio_flush"], 0, 0, "", "", "waits for what is under way, which is nothing", static (_, _) => new ValueTask<string>(""));
        yield return new DiskToolCommand(["flush", "f"], 0, 0, "", "", "brings what was written to stable storage", async (target, _) =>
        {
            await target.FlushAsync();
            return "";
        });
    }

    private static async ValueTask<string> ReadAsync(DiskToolTarget target, DiskToolOptions options, bool manyLengths)
    {
        (long offset, int length) = Range(options, manyLengths);
        Check(target, "read", options, offset, length);
        (byte pattern, int from, int count) = Expected(options, length);
        byte[] buffer = new byte[length];
        long started = Stopwatch.GetTimestamp();
        await target.ReadAsync(offset, buffer);
        // Before anything is compared or shown, which takes its time as well.
        string report = options.Has('q') ? "" : DiskToolReport.Of("read", started, offset, length, options.Has('C'));
        bool wrong = options.Has('P') && buffer.AsSpan(from, count).ContainsAnyExcept(pattern);
        return (wrong ? $"Pattern verification failed at offset {offset + from}, {count} bytes\n" : "")
            + (options.Has('v') && !options.Has('q') ? DiskToolReport.Dump(buffer, offset) : "") + report;
    }

    private static (byte Pattern, int From, int Count) Expected(DiskToolOptions options, int length)
    {
        if (options.Value('P') is not { } text)
        {
            return options.Has('s') || options.Has('l') ? throw new DiskToolUsageException() : default;
        }

        byte pattern = DiskToolNumbers.ParsePattern(text);
        int from = options.Value('s') is { } start ? DiskToolNumbers.ParseLength(start) : 0;
        int count = options.Value('l') is { } wanted ? DiskToolNumbers.ParseLength(wanted) : length - from;
        return count >= 0 && (long)from + count <= length
            ? (pattern, from, count)
            : throw new DiskToolException("pattern verification range exceeds end of read data\n");
    }

    private static async ValueTask<string> WriteAsync(DiskToolTarget target, DiskToolOptions options, bool manyLengths)
    {
        CheckWriteOptions(options);
        (long offset, int length) = Range(options, manyLengths);
        Check(target, "write", options, offset, length);
        byte pattern = options.Value('P') is { } text ? DiskToolNumbers.ParsePattern(text) : PatternDefault;
        long started = Stopwatch.GetTimestamp();
        if (options.Has('z'))
        {
            await target.ZeroAsync(offset, length, options.Has('u') ? ZeroFlags.MayUnmap : ZeroFlags.None, options.Has('f'));
        }
        else
        {
            byte[] buffer = new byte[length];
            Array.Fill(buffer, pattern);
            started = Stopwatch.GetTimestamp();
            await target.WriteAsync(offset, buffer, options.Has('c'), options.Has('f'));
        }

        return options.Has('q') ? "" : DiskToolReport.Of("wrote", started, offset, length, options.Has('C'));
    }

    private static void CheckWriteOptions(DiskToolOptions options)
    {
        if (options.Has('u') && !options.Has('z'))
        {
            throw new DiskToolException("-u requires -z to be specified\n");
        }

        if (options.Has('n') && !options.Has('z'))
        {
            throw new DiskToolException("-n requires -z to be specified\n");
        }

        if (options.Has('z') && options.Has('P'))
        {
            throw new DiskToolException("Only one of -z, -P, and -s can be specified at the same time\n");
        }
    }

    private static async ValueTask<string> DiscardAsync(DiskToolTarget target, DiskToolOptions options)
    {
        (long offset, int length) = Range(options, manyLengths: false);
        Check(target, "discard", options, offset, length);
        long started = Stopwatch.GetTimestamp();
        await target.DiscardAsync(offset, length);
        return options.Has('q') ? "" : DiskToolReport.Of("discard", started, offset, length, options.Has('C'));
    }

    private static (long Offset, int Length) Range(DiskToolOptions options, bool manyLengths)
    {
        if (options.Rest.Count < 2 || (options.Rest.Count > 2 && !manyLengths))
        {
            throw new DiskToolUsageException();
        }

        long offset = DiskToolNumbers.Parse(options.Rest[0]);
        long length = options.Rest.Skip(1).Sum(text => (long)DiskToolNumbers.ParseLength(text));
        return (offset, DiskToolNumbers.ParseLength(length.ToString(System.Globalization.CultureInfo.InvariantCulture)));
    }

    private static void Check(DiskToolTarget target, string what, DiskToolOptions options, long offset, int length)
    {
        if (options.Has('b'))
        {
            // The state of a virtual machine, which nobody stores here.
            throw new DiskToolException($"{what} failed: {ErrnoText.Describe(Errno.EOPNOTSUPP)}\n");
        }

        if (what != "read" && target.ReadOnly)
        {
            throw new DiskToolException("Block node is read-only\n");
        }

        if (offset > target.Size - length)
        {
            throw new DiskToolException($"{what} failed: {ErrnoText.Describe(Errno.EIO)}\n");
        }
    }
}
