namespace BlockMount.Block.Graph;

/// <summary>How a device serves its root. Immutable.</summary>
public sealed record DeviceOptions
{
    /// <summary>"drive0", or an export's id.</summary>
    public required string Name { get; init; }

    /// <summary>Admit writes.</summary>
    public bool Writable { get; init; }

    /// <summary>Pass discards on.</summary>
    public bool DiscardEnabled { get; init; } = true;

    /// <summary>What is asked of the root, and left to its other users; null: <see cref="EdgePermissions.ForDevice"/>.</summary>
    public EdgePermissions? Permissions { get; init; }

    /// <summary>The device as a subject of permission conflicts; exports have no name there, as in QEMU.</summary>
    public string Description { get; init; } = "an unnamed block device";
}
