using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Serialization;
using BlockMount.Formats.Qcow2.Check;

namespace BlockMount.Daemon.Cli;

/// <summary>The answer of check for programs: the fields of qemu-img check, ours in one object "blockmount".</summary>
internal static class CheckJson
{
    private static readonly CheckJsonContext s_context = new(new JsonSerializerOptions
    {
        WriteIndented = true,
        IndentSize = 4,
        DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
    });

    /// <summary>One object. Ends with a newline.</summary>
    /// <param name="damage">The guest ranges that are or were hit.</param>
    public static string Write(CheckReport report, GuestDamage damage, string fileName) => JsonSerializer.Serialize(
        new ImageCheckJson
        {
            ImageEndOffset = OrNull(report.ImageEndOffset),
            TotalClusters = OrNull(report.TotalClusters),
            CheckErrors = report.CheckErrors,
            Corruptions = OrNull(report.Corruptions),
            Leaks = OrNull(report.Leaks),
            CorruptionsFixed = OrNull(report.CorruptionsFixed),
            LeaksFixed = OrNull(report.LeaksFixed),
            AllocatedClusters = OrNull(report.AllocatedClusters),
            FragmentedClusters = OrNull(report.FragmentedClusters),
            CompressedClusters = OrNull(report.CompressedClusters),
            Filename = fileName,
            Format = "qcow2",
            BlockMount = Extras(report, damage),
        },
        s_context.ImageCheckJson) + "\n";

    private static CheckExtrasJson? Extras(CheckReport report, GuestDamage damage) => damage.TotalRanges == 0 && report.CorruptionsUnknownToQemu == 0
        ? null
        : new CheckExtrasJson
        {
            CorruptionsUnknownToQemu = report.CorruptionsUnknownToQemu,
            GuestRangesTotal = damage.TotalRanges,
            GuestBytesTotal = damage.TotalBytes,
            GuestRanges = [.. damage.Ranges.Select(range => new GuestRangeJson { Snapshot = range.Snapshot, Offset = range.Offset, Length = range.Length })],
        };

    // Numbers that are 0 are left out, as qemu-img does; check-errors is always there.
    private static long? OrNull(long value) => value == 0 ? null : value;
}

[JsonSerializable(typeof(ImageCheckJson))]
internal sealed partial class CheckJsonContext : JsonSerializerContext;

/// <summary>ImageCheck of QEMU's QAPI schema.</summary>
internal sealed record ImageCheckJson
{
    [JsonPropertyName("image-end-offset")]
    public long? ImageEndOffset { get; init; }

    [JsonPropertyName("total-clusters")]
    public long? TotalClusters { get; init; }

    [JsonPropertyName("check-errors")]
    public long CheckErrors { get; init; }

    [JsonPropertyName("corruptions")]
    public long? Corruptions { get; init; }

    [JsonPropertyName("leaks")]
    public long? Leaks { get; init; }

    [JsonPropertyName("corruptions-fixed")]
    public long? CorruptionsFixed { get; init; }

    [JsonPropertyName("leaks-fixed")]
    public long? LeaksFixed { get; init; }

    [JsonPropertyName("allocated-clusters")]
    public long? AllocatedClusters { get; init; }

    [JsonPropertyName("fragmented-clusters")]
    public long? FragmentedClusters { get; init; }

    [JsonPropertyName("compressed-clusters")]
    public long? CompressedClusters { get; init; }

    [JsonPropertyName("filename")]
    public required string Filename { get; init; }

    [JsonPropertyName("format")]
    public required string Format { get; init; }

    [JsonPropertyName("blockmount")]
    public CheckExtrasJson? BlockMount { get; init; }
}

/// <summary>What qemu-img does not say.</summary>
internal sealed record CheckExtrasJson
{
    /// <summary>How many of "corruptions" qemu-img check does not look for.</summary>
    [JsonPropertyName("corruptions-unknown-to-qemu")]
    public long CorruptionsUnknownToQemu { get; init; }

    [JsonPropertyName("guest-ranges-total")]
    public long GuestRangesTotal { get; init; }

    [JsonPropertyName("guest-bytes-total")]
    public long GuestBytesTotal { get; init; }

    /// <summary>The first ranges whose content is in doubt; after a repair those that it could not save.</summary>
    [JsonPropertyName("guest-ranges")]
    public required List<GuestRangeJson> GuestRanges { get; init; }
}

/// <summary>A range of the disk, or of a snapshot that is named.</summary>
internal sealed record GuestRangeJson
{
    [JsonPropertyName("snapshot")]
    public string? Snapshot { get; init; }

    [JsonPropertyName("offset")]
    public long Offset { get; init; }

    [JsonPropertyName("length")]
    public long Length { get; init; }
}
