using BlockMount.Bench.Loads;

namespace BlockMount.Bench;

/// <summary>Which rows and loads a command line asks for.</summary>
internal static class RunPlan
{
    /// <summary>The rows that are shown.</summary>
    public static IReadOnlyList<Workload> Rows(BenchSettings settings) =>
        [.. (IsQuickLook(settings) ? WorkloadTable.QuickRows : WorkloadTable.Rows).Where(row => settings.Wants(row.Name))];

    /// <summary>The groups to measure, with those loads only that a row needs, or that the filter names.</summary>
    public static IReadOnlyList<LoadGroup> Groups(BenchSettings settings, IReadOnlyList<Workload> rows)
    {
        HashSet<Load> needed = [.. rows.SelectMany(row => row.OwnBaseline is { } own ? new[] { row.Load, own } : [row.Load])];
        bool few = IsQuickLook(settings);
        bool Wanted(Load load) => needed.Contains(load) || (!few && settings.Wants(load.Name));
        // A quick look leaves the native file out, for time.
        bool Peers(LoadGroup group) => group.Peers && (!few || group.Loads[0].Access == Access.Nbd);
        return
        [
            .. WorkloadTable.Groups.Select(group => group with { Loads = [.. group.Loads.Where(Wanted)], Peers = Peers(group) })
                .Where(group => group.Loads.Count > 0),
        ];
    }

    // With a filter, a quick run is a short one of everything that was asked for.
    private static bool IsQuickLook(BenchSettings settings) => settings.Quick && settings.Filters.Count == 0;
}
