using System.Globalization;
using BlockMount.Exports.Fuse;
using BlockMount.Storage;

namespace BlockMount.Daemon.Cli;

/// <summary>Reads the comma separated words of -o. A later word wins over an earlier one, as with mount(8).</summary>
public static class MountOptionParser
{
    private const int WorkersMax = 64;

    private static readonly string[] s_known =
    [
        "ro", "rw", "allow_other", "growable", "share_rw", "discard", "cache", "cache.direct", "cache.no-flush", "aio",
        "uid", "gid", "mode", "umask", "workers", "transport", "passthrough", "backing_format", "data_file", "snapshot",
        .. Qcow2OptionParser.Names,
    ];

    // Always in force, or without meaning here; mount(8) and fstab pass them along.
    private static readonly string[] s_accepted = ["default_permissions", "nosuid", "nodev", "noatime", "defaults", "noauto", "nofail", "_netdev"];

    /// <summary>Applies <paramref name="words"/> to <paramref name="start"/>.</summary>
    /// <exception cref="UsageException">A word is unknown or its value is wrong.</exception>
    public static MountOptions Parse(IEnumerable<string> words, MountOptions start)
    {
        MountOptions options = start;
        foreach (string list in words)
        {
            foreach (string word in list.Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries))
            {
                int equals = word.IndexOf('=', StringComparison.Ordinal);
                string name = equals < 0 ? word : word[..equals];
                options = Apply(options, name, equals < 0 ? null : word[(equals + 1)..]);
            }
        }

        Qcow2OptionParser.CheckTogether(options.Qcow2);
        return options;
    }

    private static MountOptions Apply(MountOptions options, string name, string? value) => name switch
    {
        "ro" => options with { ReadOnly = Flag(name, value) },
        "rw" => options with { ReadOnly = !Flag(name, value) },
        "growable" => options with { Growable = Flag(name, value) },
        "share_rw" or "share-rw" => options with { ShareWrite = Flag(name, value) },
        "cache.direct" => options with { Direct = Flag(name, value) },
        "cache.no-flush" => options with { NoFlush = Flag(name, value) },
        "cache" => Cache(options, Need(name, value)),
        "aio" => options with { Engine = EngineOf(Need(name, value)) },
        "allow_other" => options with { AllowOther = AllowOtherOf(name, value) },
        "discard" => options with { Discard = DiscardOf(name, value) },
        "uid" => options with { UserId = (uint)Number(name, value, 10, uint.MaxValue) },
        "gid" => options with { GroupId = (uint)Number(name, value, 10, uint.MaxValue) },
        "mode" => options with { Mode = (uint)Number(name, value, 8, 0x1FF) },
        "umask" => options with { Mode = 0x1B6 & ~(uint)Number(name, value, 8, 0x1FF) },
        "workers" => options with { Workers = (int)Number(name, value, 10, WorkersMax) },
        "transport" => options with { Transport = TransportOf(Need(name, value)) },
        "passthrough" => options with { Passthrough = Flag(name, value) },
        "snapshot" => options with { Snapshot = Need(name, value) },
        "backing_format" => options with { BackingFormat = Need(name, value) },
        "data_file" or "data-file" => options with { DataFile = Need(name, value) },
        _ when Qcow2OptionParser.TryApply(options.Qcow2, name, value) is { } qcow2 => options with { Qcow2 = qcow2 },
        _ when s_accepted.Contains(name) => options,
        _ => throw new UsageException($"unknown option '{name}' in -o", NearMatch.Hint(name, s_known)),
    };

    /// <summary>The value of a word that is on or off; a name alone means on.</summary>
    internal static bool Flag(string name, string? value) => value switch
    {
        null or "on" or "yes" or "true" => true,
        "off" or "no" or "false" => false,
        _ => throw Wrong(name, value, "on or off"),
    };

    private static AllowOther AllowOtherOf(string name, string? value) => value switch
    {
        null or "on" => AllowOther.On,
        "off" => AllowOther.Off,
        "auto" => AllowOther.Auto,
        _ => throw Wrong(name, value, "auto, on or off"),
    };

    private static FuseTransport TransportOf(string value) => value switch
    {
        "auto" => FuseTransport.Auto,
        "dev" => FuseTransport.Dev,
        "uring" => FuseTransport.Uring,
        _ => throw Wrong("transport", value, "auto, dev or uring"),
    };

    private static IoEngine EngineOf(string value) => value switch
    {
        "auto" => IoEngine.Auto,
        "threads" => IoEngine.Threads,
        "io_uring" => IoEngine.IoUring,
        "native" => throw new UsageException("option 'aio' in -o cannot be 'native'", "Linux AIO is not used here; aio=io_uring does what it does, and more."),
        _ => throw Wrong("aio", value, "auto, threads or io_uring"),
    };

    private static bool DiscardOf(string name, string? value) => value switch
    {
        null or "unmap" or "on" => true,
        "ignore" or "off" => false,
        _ => throw Wrong(name, value, "unmap or ignore"),
    };

    // The meaning of QEMU's cache modes that this program can hold.
    private static MountOptions Cache(MountOptions options, string mode) => mode switch
    {
        "writeback" => options with { Direct = false, NoFlush = false },
        "none" => options with { Direct = true, NoFlush = false },
        "unsafe" => options with { Direct = false, NoFlush = true },
        _ => throw Wrong("cache", mode, "writeback, none or unsafe"),
    };

    /// <summary>The value of a word that must have one.</summary>
    internal static string Need(string name, string? value) =>
        value is { Length: > 0 } ? value : throw new UsageException($"option '{name}' in -o needs a value", $"Write {name}=VALUE.");

    private static long Number(string name, string? value, int radix, long max)
    {
        string text = Need(name, value);
        string expected = radix == 8 ? $"an octal number up to {Convert.ToString(max, 8)}" : $"a number up to {max.ToString(CultureInfo.InvariantCulture)}";
        if (!text.All(c => c >= '0' && c < '0' + radix) || text.Length > 12)
        {
            throw Wrong(name, value, expected);
        }

        long number = Convert.ToInt64(text, radix);
        return number <= max ? number : throw Wrong(name, value, expected);
    }

    /// <summary>The error for a value that does not fit.</summary>
    internal static UsageException Wrong(string name, string? value, string expected) =>
        new($"option '{name}' in -o cannot be '{value}'", $"It takes {expected}.");
}
