using System.Text.Json.Serialization;

namespace BlockMount.Daemon.Registry;

/// <summary>What one daemon says about itself. The property names are the ones of 'blockmount ls --json'.</summary>
public sealed record RegistryEntry
{
    /// <summary>Unique among the daemons of one registry; also the file's name.</summary>
    public required string Id { get; init; }

    public required int Pid { get; init; }

    /// <summary>Clock ticks since boot when the process began (field 22 of /proc/PID/stat); tells it from a later one with its pid.</summary>
    public required long StartTicks { get; init; }

    /// <summary>User who runs it.</summary>
    public required uint Uid { get; init; }

    /// <summary>Absolute path of the active layer.</summary>
    public required string Image { get; init; }

    public required string Format { get; init; }

    /// <summary>Images in the chain.</summary>
    public required int Depth { get; init; }

    /// <summary>Bytes that clients see.</summary>
    public required long VirtualSize { get; init; }

    public required bool ReadOnly { get; init; }

    /// <summary>When it began to serve, UTC.</summary>
    public required DateTime Started { get; init; }

    /// <summary>Absolute path; null when it serves NBD only.</summary>
    public string? MountPoint { get; init; }

    /// <summary>The daemon made the mount point's file and removes it at the end, as does its successor after a crash.</summary>
    public bool MountPointMade { get; init; }

    /// <summary>NBD URI; null when it serves none.</summary>
    public string? Nbd { get; init; }

    /// <summary>Why the last flush or close failed; only in the entry of a daemon that has ended.</summary>
    public string? CloseError { get; init; }
}

/// <summary>Reads and writes entries without reflection.</summary>
[JsonSourceGenerationOptions(
    WriteIndented = true,
    PropertyNamingPolicy = JsonKnownNamingPolicy.KebabCaseLower,
    DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull)]
[JsonSerializable(typeof(RegistryEntry))]
[JsonSerializable(typeof(List<RegistryEntry>))]
internal sealed partial class RegistryJson : JsonSerializerContext;
