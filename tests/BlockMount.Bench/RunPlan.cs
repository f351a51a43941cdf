using BlockMount.Bench.Loads;

namespace BlockMount.Bench;

/// <summary>Which rows and loads a command line asks for.</summary>
internal static class RunPlan
{
    /// <summary>The rows that are shown.</summary>
    public static IReadOnlyList<Workload> Rows(BenchSettings settings)
    {
        // With a filter, a quick run is a short one of the rows that were asked for.
        bool few = settings.Quick && settings.Filters.Count == 0;
        return [.. (few ? WorkloadTable.QuickRows : WorkloadTable.Rows).Where(row => settings.Wants(row.Name))];
    }

    /// <summary>The groups to measure, with those loads only that a row needs, or that the filter names.</summary>
    public static IReadOnlyList<LoadGroup> Groups(BenchSettings settings, IReadOnlyList<Workload> rows)
    {
        HashSet<Load> needed = [.. rows.SelectMany(row => row.OwnBaseline is { } own ? new[] { row.Load, own } : [row.Load])];
        bool few = settings.Quick && settings.Filters.Count == 0;
        bool Wanted(Load load) => needed.Contains(load) || (!few && settings.Wants(load.Name));
        return [.. WorkloadTable.Groups.Select(group => group with { Loads = [.. group.Loads.Where(Wanted)] }).Where(group => group.Loads.Count > 0)];
    }
}
