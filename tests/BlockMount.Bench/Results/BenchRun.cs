using BlockMount.Bench.Loads;

namespace BlockMount.Bench.Results;

/// <summary>All that a run of the harness found out; what the tables, the plots and the document are made of.</summary>
internal sealed record BenchRun
{
    /// <summary>Rows that were asked for.</summary>
    public required IReadOnlyList<Workload> Rows { get; init; }

    public required Measurements Measurements { get; init; }

    public required IReadOnlyList<LimitFigure> Limits { get; init; }

    /// <summary>What could not be measured.</summary>
    public required Failures Failures { get; init; }

    /// <summary>Columns, in their order.</summary>
    public required IReadOnlyList<Contender> Contenders { get; init; }

    /// <summary>Rows and figures whose floor was missed.</summary>
    public int FloorsMissed => Missed(row => row.Floor, figure => figure.Floor);

    /// <summary>Rows and figures whose goal was missed.</summary>
    public int GoalsMissed => Missed(row => row.Goal, figure => figure.Goal);

    // A row that could not be measured counts as missed: no figure, no claim.
    private int Missed(Func<Workload, double?> ofRow, Func<LimitFigure, double?> ofFigure) =>
        Rows.Count(row => ofRow(row) is { } bound && !(Measurements.Compare(row) is { } ratio && new Bound(bound, row.Metric.LessIsBetter()).Holds(ratio.Value)))
        + Limits.Count(figure => ofFigure(figure) is { } limit && !(figure.Ours is { } value && new Bound(limit, AtMost: true).Holds(value)));
}
