using System.Globalization;
using BlockMount.Base;
using BlockMount.Formats.Qcow2;
using BlockMount.Formats.Qcow2.Metadata;

namespace BlockMount.Daemon.Cli;

/// <summary>Reads the words of -o that are run-time options of the qcow2 driver, with QEMU's names. A later word wins over an earlier one.</summary>
internal static class Qcow2OptionParser
{
    private const string OverlapPrefix = "overlap-check.";

    // Longer than the daemon will live, and what a timer can wait.
    private const int CleanSecondsMax = 4_000_000;

    private static readonly string[] s_names =
    [
        "l2-cache-size", "l2-cache-entry-size", "refcount-cache-size", "cache-size", "cache-clean-interval", "lazy-refcounts",
        "pass-discard-request", "pass-discard-snapshot", "pass-discard-other", "discard-no-unref", "overlap-check", "overlap-check.template",
    ];

    /// <summary>All names.</summary>
    internal static IEnumerable<string> Names => s_names.Concat(MetadataKindNames.Kinds.Keys.Select(kind => OverlapPrefix + kind));

    /// <summary>Applies one word.</summary>
    /// <returns>Null if the name is none of this driver's.</returns>
    /// <exception cref="UsageException">The value is wrong.</exception>
    internal static Qcow2RuntimeOptions? TryApply(Qcow2RuntimeOptions options, string name, string? value) => name switch
    {
        "l2-cache-size" => options with { L2CacheBytes = Bytes(name, value) },
        "l2-cache-entry-size" => options with { L2CacheEntryBytes = Bytes(name, value) },
        "refcount-cache-size" => options with { RefcountCacheBytes = Bytes(name, value) },
        "cache-size" => options with { CacheBytes = Bytes(name, value) },
        "cache-clean-interval" => options with { CacheCleanInterval = TimeSpan.FromSeconds(Seconds(name, value)) },
        "lazy-refcounts" => options with { LazyRefcounts = MountOptionParser.Flag(name, value) },
        "pass-discard-request" => options with { PassDiscardRequest = MountOptionParser.Flag(name, value) },
        "pass-discard-snapshot" => options with { PassDiscardSnapshot = MountOptionParser.Flag(name, value) },
        "pass-discard-other" => options with { PassDiscardOther = MountOptionParser.Flag(name, value) },
        "discard-no-unref" => options with { DiscardNoUnref = MountOptionParser.Flag(name, value) },
        "overlap-check" or "overlap-check.template" => options with { OverlapTemplate = Template(name, value) },
        _ when name.StartsWith(OverlapPrefix, StringComparison.Ordinal) && MetadataKindNames.Kinds.TryGetValue(name[OverlapPrefix.Length..], out MetadataKinds kind) =>
            MountOptionParser.Flag(name, value)
                ? options with { OverlapOn = options.OverlapOn | kind, OverlapOff = options.OverlapOff & ~kind }
                : options with { OverlapOn = options.OverlapOn & ~kind, OverlapOff = options.OverlapOff | kind },
        _ => null,
    };

    /// <summary>Refuses options that exclude each other.</summary>
    /// <exception cref="UsageException">They do.</exception>
    internal static void CheckTogether(Qcow2RuntimeOptions options)
    {
        if (options.FindConflict() is { } conflict)
        {
            throw new UsageException($"{conflict} (-o)", "cache-size is for all cached metadata; leave out at least one of the sizes.");
        }
    }

    private static MetadataKinds Template(string name, string? value) => value is not null && MetadataKindNames.Templates.TryGetValue(value, out MetadataKinds kinds)
        ? kinds
        : throw MountOptionParser.Wrong(name, value, string.Join(", ", MetadataKindNames.Templates.Keys));

    private static long Bytes(string name, string? value) => ByteSize.TryParse(MountOptionParser.Need(name, value), out long bytes)
        ? bytes
        : throw MountOptionParser.Wrong(name, value, "a number of bytes, or with a suffix as 512k, 4M");

    private static int Seconds(string name, string? value) =>
        int.TryParse(MountOptionParser.Need(name, value), NumberStyles.None, CultureInfo.InvariantCulture, out int seconds) && seconds <= CleanSecondsMax
            ? seconds
            : throw MountOptionParser.Wrong(name, value, $"seconds up to {CleanSecondsMax.ToString(CultureInfo.InvariantCulture)}; 0 switches it off");
}
