namespace BlockMount.Bench.Loads;

/// <summary>
/// One row with a ratio: BlockMount's figure under <paramref name="Load"/> to a reference's. The reference is another contender under the
/// same load, or BlockMount itself under <see cref="OwnBaseline"/>.
/// </summary>
/// <param name="Floor">Ratio that the first milestone asks for; null where it asks for none.</param>
/// <param name="Goal">Ratio that the request path is built for; null where there is none.</param>
internal sealed record Workload(Load Load, Metric Metric, double? Floor, double? Goal)
{
    /// <summary>Whose figure the ratio is to.</summary>
    public Contender Against { get; init; } = Contender.Qemu;

    /// <summary>When set, the ratio is to BlockMount's own figure under this load.</summary>
    public Load? OwnBaseline { get; init; }

    /// <summary>What the filter on the command line looks at, unique in the table.</summary>
    public string Name => Load.Name + Metric.Suffix() + OwnBaseline switch
    {
        { } own => $", against a chain of {own.Disk.Depth}",
        null => Against switch
        {
            Contender.Nbdkit => ", against nbdkit's raw file",
            Contender.NativeFile => ", against the file itself",
            _ => "",
        },
    };
}
