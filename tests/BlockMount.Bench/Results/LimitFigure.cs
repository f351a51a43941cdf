using BlockMount.Bench.Loads;

namespace BlockMount.Bench.Results;

/// <summary>A figure of BlockMount's that has a limit of its own; QEMU's stands beside it for comparison where it has one.</summary>
/// <param name="Unit">Of all figures and limits: ms, MiB or x.</param>
/// <param name="Medians">By contender.</param>
/// <param name="Floor">The most that the first milestone allows, or null.</param>
/// <param name="Goal">The most that the request path is built for, or null.</param>
internal sealed record LimitFigure(string Name, string Unit, IReadOnlyDictionary<Contender, double> Medians, double? Floor, double? Goal)
{
    public double? Ours => Of(Contender.BlockMount);

    /// <summary>The figure, or null.</summary>
    public double? Of(Contender contender) => Medians.TryGetValue(contender, out double value) ? value : null;
}
