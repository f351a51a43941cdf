using BlockMount.Control.Json;
using BlockMount.Control.Schema;
using BlockMount.Formats.Qcow2;
using BlockMount.Formats.Qcow2.Metadata;

namespace BlockMount.Control.Commands;

/// <summary>The driver's own part of BlockdevOptionsQcow2.</summary>
internal static class Qcow2OptionReader
{
    // More than a month, and what a timer takes.
    private const int CleanSecondsMax = 4_000_000;

    /// <exception cref="CommandException">A value is out of range; what contradicts another option is found by whoever opens the image.</exception>
    internal static Qcow2RuntimeOptions Read(JsonObject options)
    {
        JsonObject? checks = options.Object("overlap-check");
        string? template = checks is null ? options.Text("overlap-check") : checks.Text("template");
        return new Qcow2RuntimeOptions
        {
            CacheBytes = NodeOptionReader.Bytes(options, "cache-size"),
            L2CacheBytes = NodeOptionReader.Bytes(options, "l2-cache-size"),
            L2CacheEntryBytes = NodeOptionReader.Bytes(options, "l2-cache-entry-size"),
            RefcountCacheBytes = NodeOptionReader.Bytes(options, "refcount-cache-size"),
            CacheCleanInterval = options.Integer("cache-clean-interval") switch
            {
                null => null,
                < 0 or > CleanSecondsMax => throw new CommandException("Cache clean interval too big"),
                { } seconds => TimeSpan.FromSeconds(seconds),
            },
            LazyRefcounts = options.Flag("lazy-refcounts"),
            PassDiscardRequest = options.Flag("pass-discard-request"),
            PassDiscardSnapshot = options.Flag("pass-discard-snapshot"),
            PassDiscardOther = options.Flag("pass-discard-other"),
            OverlapTemplate = template is null ? null : MetadataKindNames.Templates[template],
            OverlapOn = Kinds(checks, value: true),
            OverlapOff = Kinds(checks, value: false),
        };
    }

    private static MetadataKinds Kinds(JsonObject? checks, bool value) => checks is null
        ? MetadataKinds.None
        : MetadataKindNames.Kinds.Where(kind => checks.Flag(kind.Key) == value).Aggregate(MetadataKinds.None, (all, kind) => all | kind.Value);
}
