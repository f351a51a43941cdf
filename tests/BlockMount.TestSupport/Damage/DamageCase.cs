namespace BlockMount.TestSupport.Damage;

/// <summary>One deliberate damage to a small sound image.</summary>
/// <param name="Name">What was done, unique.</param>
/// <param name="Recipe">See <see cref="SoundImage.GetAsync"/>.</param>
/// <param name="Harm">Does the damage.</param>
public sealed record DamageCase(string Name, string Recipe, Action<ImageSurgeon> Harm)
{
    /// <summary>Guest clusters of the active disk whose mapping the damage takes away without a trace, so that no check can know of them.</summary>
    public IReadOnlyList<int> Dropped { get; init; } = [];

    /// <summary>Snapshots that the damage takes away without a trace, or whose name it changes.</summary>
    public IReadOnlyList<string> DroppedSnapshots { get; init; } = [];

    /// <summary>Why qemu-img's verdict on this image is not the measure; null where it is.</summary>
    public string? QemuDiffers { get; init; }

    /// <inheritdoc/>
    public override string ToString() => $"{Recipe}: {Name}";
}
