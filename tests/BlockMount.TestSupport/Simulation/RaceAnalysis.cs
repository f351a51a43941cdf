namespace BlockMount.TestSupport.Simulation;

/// <summary>
/// Finds the races of a finished run and asks for their reversal (dynamic partial order reduction after Flanagan and Godefroid). A race is a step and the
/// last step of another operation before it that it depends on, unless that one had to come first: it made the step possible, or it happened before
/// something that the step's operation did earlier. "Happened before" is the transitive closure of: same operation, dependent, made possible by.
/// </summary>
internal sealed class RaceAnalysis
{
    private readonly List<ScheduleExplorer.Point> _path;
    private readonly int _operations;

    // For each step of the run and each operation: the last step of that operation that happened before it (itself included); -1 for none.
    private readonly int[] _clocks;

    internal RaceAnalysis(List<ScheduleExplorer.Point> path)
    {
        _path = path;
        _operations = 1 + path.Max(point => point.Steps.Max(step => step.Operation));
        _clocks = new int[path.Count * _operations];
    }

    /// <summary>Adds to what the points of the path want to try, for the races of the steps from <paramref name="firstNew"/> on.</summary>
    internal void WantReversals(int firstNew)
    {
        int[] lastOf = new int[_operations];
        Array.Fill(lastOf, -1);
        for (int j = 0; j < _path.Count; j++)
        {
            ScheduleStep step = _path[j].Step;
            Span<int> clock = Clock(j);
            clock.Fill(-1);
            Merge(clock, lastOf[step.Operation]);
            Merge(clock, _path[j].Since[_path[j].Chosen] - 1);
            if (j >= firstNew)
            {
                FindRace(j, step, clock);
            }

            for (int i = j - 1; i >= 0; i--)
            {
                if (i > clock[_path[i].Step.Operation] && step.DependsOn(_path[i].Step))
                {
                    Merge(clock, i);
                }
            }

            clock[step.Operation] = j;
            lastOf[step.Operation] = j;
        }
    }

    private Span<int> Clock(int index) => _clocks.AsSpan(index * _operations, _operations);

    private void Merge(Span<int> clock, int index)
    {
        if (index >= 0)
        {
            ReadOnlySpan<int> other = Clock(index);
            for (int i = 0; i < clock.Length; i++)
            {
                clock[i] = Math.Max(clock[i], other[i]);
            }
        }
    }

    // The clock holds what had to come before step j.
    private void FindRace(int j, in ScheduleStep step, ReadOnlySpan<int> clock)
    {
        for (int i = j - 1; i >= 0; i--)
        {
            ScheduleStep earlier = _path[i].Step;
            if (earlier.Operation != step.Operation && i > clock[earlier.Operation] && step.DependsOn(earlier))
            {
                WantAt(_path[i], i, step.Operation, clock);
                return;
            }
        }
    }

    // What leads to step j without step i: its operation's own step if it had one, otherwise one of an operation that step j had to wait for, otherwise anything.
    private static void WantAt(ScheduleExplorer.Point point, int i, int operation, ReadOnlySpan<int> clock)
    {
        uint own = 0;
        uint needed = 0;
        uint all = 0;
        for (int k = 0; k < point.Steps.Length; k++)
        {
            int other = point.Steps[k].Operation;
            own |= other == operation ? 1u << k : 0;
            needed |= clock[other] > i ? 1u << k : 0;
            all |= 1u << k;
        }

        uint wanted = own != 0 ? own : needed != 0 ? needed : all;
        // One is enough, and one that is wanted already is best.
        point.Wanted |= (point.Wanted & wanted) != 0 ? 0 : own != 0 || needed != 0 ? wanted & (~wanted + 1) : wanted;
    }
}
