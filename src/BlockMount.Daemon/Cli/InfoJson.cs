using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Serialization;
using BlockMount.Formats;
using BlockMount.Formats.Qcow2.Bitmaps;
using BlockMount.Formats.Qcow2.OnDisk;

namespace BlockMount.Daemon.Cli;

/// <summary>The answer of info for programs: the fields of qemu-img info, ours in one object "blockmount".</summary>
internal static class InfoJson
{
    private const ulong NanosecondsPerSecond = 1_000_000_000;

    private static readonly InfoJsonContext s_context = new(new JsonSerializerOptions
    {
        WriteIndented = true,
        IndentSize = 4,
        DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
    });

    /// <summary>One object, or an array of the whole chain. Ends with a newline.</summary>
    public static string Write(IReadOnlyList<InspectedImage> images, bool asArray)
    {
        List<ImageInfoJson> list = [.. images.Select(ToJson)];
        return (asArray
            ? JsonSerializer.Serialize(list, s_context.ListImageInfoJson)
            : JsonSerializer.Serialize(list[0], s_context.ImageInfoJson)) + "\n";
    }

    private static ImageInfoJson ToJson(InspectedImage inspected)
    {
        ImageInfo image = inspected.Image;
        Qcow2Header? header = image.Header;
        return new ImageInfoJson
        {
            BackingFilenameFormat = image.Backing?.Format,
            Snapshots = image.Snapshots.Count == 0 ? null : [.. image.Snapshots.Select(ToJson)],
            VirtualSize = image.VirtualSize,
            Filename = image.FileName,
            ClusterSize = header?.ClusterSize,
            Format = image.Format,
            ActualSize = image.ActualSize,
            FormatSpecific = header is null ? null : new FormatSpecificJson { Type = "qcow2", Data = ToJson(header, image.Bitmaps) },
            FullBackingFilename = inspected.BackingPath,
            BackingFilename = image.Backing?.FileName,
            DirtyFlag = header?.HasIncompatible(FeatureBits.Dirty) ?? false,
            Encrypted = header?.CryptMethod > 0 ? true : null,
            BlockMount = inspected.IsLive ? new InfoExtrasJson { Live = true } : null,
        };
    }

    private static Qcow2InfoJson ToJson(Qcow2Header header, BitmapDirectory bitmaps)
    {
        bool version3 = header.Version >= 3;
        return new Qcow2InfoJson
        {
            Compat = version3 ? "1.1" : "0.10",
            CompressionType = header.CompressionType == 0 ? "zlib" : "zstd",
            LazyRefcounts = version3 ? header.HasCompatible(FeatureBits.LazyRefcounts) : null,
            Bitmaps = bitmaps.Bitmaps.Count == 0 ? null : [.. bitmaps.Bitmaps.Select(ToJson)],
            RefcountBits = 1 << header.RefcountOrder,
            Corrupt = version3 ? header.HasIncompatible(FeatureBits.Corrupt) : null,
            ExtendedL2 = version3 ? header.HasIncompatible(FeatureBits.ExtendedL2) : null,
            DataFile = header.DataFileName,
            DataFileRaw = header.HasDataFile ? (header.AutoclearFeatures & FeatureBits.RawExternalData) != 0 : null,
        };
    }

    private static BitmapJson ToJson(StoredBitmap bitmap) => new()
    {
        Flags = [.. FlagNames(bitmap)],
        Name = bitmap.Name,
        Granularity = bitmap.Granularity,
    };

    /// <summary>The flags of a bitmap in the words of QEMU's schema. One that cannot be used for another reason is shown as in use.</summary>
    internal static IEnumerable<string> FlagNames(StoredBitmap bitmap)
    {
        if (!bitmap.IsConsistent)
        {
            yield return "in-use";
        }

        if (bitmap.IsAuto)
        {
            yield return "auto";
        }
    }

    private static SnapshotJson ToJson(SnapshotEntry snapshot) => new()
    {
        InstructionCount = snapshot.InstructionCount,
        VmClockNanoseconds = (long)(snapshot.VmClockNanoseconds % NanosecondsPerSecond),
        Name = snapshot.Name,
        DateSeconds = snapshot.DateSeconds,
        DateNanoseconds = snapshot.DateNanoseconds,
        VmClockSeconds = (long)(snapshot.VmClockNanoseconds / NanosecondsPerSecond),
        Id = snapshot.Id,
        VmStateSize = snapshot.VmStateSize,
    };
}

[JsonSerializable(typeof(ImageInfoJson))]
[JsonSerializable(typeof(List<ImageInfoJson>))]
internal sealed partial class InfoJsonContext : JsonSerializerContext;

/// <summary>ImageInfo of QEMU's QAPI schema.</summary>
internal sealed record ImageInfoJson
{
    [JsonPropertyName("backing-filename-format")]
    public string? BackingFilenameFormat { get; init; }

    [JsonPropertyName("snapshots")]
    public List<SnapshotJson>? Snapshots { get; init; }

    [JsonPropertyName("virtual-size")]
    public long VirtualSize { get; init; }

    [JsonPropertyName("filename")]
    public required string Filename { get; init; }

    [JsonPropertyName("cluster-size")]
    public int? ClusterSize { get; init; }

    [JsonPropertyName("format")]
    public required string Format { get; init; }

    [JsonPropertyName("actual-size")]
    public long ActualSize { get; init; }

    [JsonPropertyName("encrypted")]
    public bool? Encrypted { get; init; }

    [JsonPropertyName("format-specific")]
    public FormatSpecificJson? FormatSpecific { get; init; }

    [JsonPropertyName("full-backing-filename")]
    public string? FullBackingFilename { get; init; }

    [JsonPropertyName("backing-filename")]
    public string? BackingFilename { get; init; }

    [JsonPropertyName("dirty-flag")]
    public bool DirtyFlag { get; init; }

    [JsonPropertyName("blockmount")]
    public InfoExtrasJson? BlockMount { get; init; }
}

/// <summary>SnapshotInfo of the schema.</summary>
internal sealed record SnapshotJson
{
    [JsonPropertyName("icount")]
    public long? InstructionCount { get; init; }

    [JsonPropertyName("vm-clock-nsec")]
    public long VmClockNanoseconds { get; init; }

    [JsonPropertyName("name")]
    public required string Name { get; init; }

    [JsonPropertyName("date-sec")]
    public long DateSeconds { get; init; }

    [JsonPropertyName("date-nsec")]
    public long DateNanoseconds { get; init; }

    [JsonPropertyName("vm-clock-sec")]
    public long VmClockSeconds { get; init; }

    [JsonPropertyName("id")]
    public required string Id { get; init; }

    [JsonPropertyName("vm-state-size")]
    public long VmStateSize { get; init; }
}

/// <summary>Qcow2BitmapInfo of the schema.</summary>
internal sealed record BitmapJson
{
    [JsonPropertyName("flags")]
    public required List<string> Flags { get; init; }

    [JsonPropertyName("name")]
    public required string Name { get; init; }

    [JsonPropertyName("granularity")]
    public long Granularity { get; init; }
}

/// <summary>ImageInfoSpecific of the schema.</summary>
internal sealed record FormatSpecificJson
{
    [JsonPropertyName("type")]
    public required string Type { get; init; }

    [JsonPropertyName("data")]
    public required Qcow2InfoJson Data { get; init; }
}

/// <summary>ImageInfoSpecificQCow2 of the schema.</summary>
internal sealed record Qcow2InfoJson
{
    [JsonPropertyName("compat")]
    public required string Compat { get; init; }

    [JsonPropertyName("compression-type")]
    public required string CompressionType { get; init; }

    [JsonPropertyName("lazy-refcounts")]
    public bool? LazyRefcounts { get; init; }

    [JsonPropertyName("bitmaps")]
    public List<BitmapJson>? Bitmaps { get; init; }

    [JsonPropertyName("refcount-bits")]
    public int RefcountBits { get; init; }

    [JsonPropertyName("corrupt")]
    public bool? Corrupt { get; init; }

    [JsonPropertyName("extended-l2")]
    public bool? ExtendedL2 { get; init; }

    [JsonPropertyName("data-file")]
    public string? DataFile { get; init; }

    [JsonPropertyName("data-file-raw")]
    public bool? DataFileRaw { get; init; }
}

/// <summary>What qemu-img does not say.</summary>
internal sealed record InfoExtrasJson
{
    /// <summary>Another program has the image open for writing: the answer may be out of date.</summary>
    [JsonPropertyName("live")]
    public bool Live { get; init; }
}
