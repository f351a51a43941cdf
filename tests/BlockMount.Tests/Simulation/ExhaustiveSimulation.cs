using System.Diagnostics;
using System.Globalization;
using BlockMount.TestSupport;
using BlockMount.TestSupport.Model;
using BlockMount.TestSupport.Mutants;
using BlockMount.TestSupport.Simulation;

namespace BlockMount.Tests.Simulation;

/// <summary>Visits every schedule of combinations of programs, and counts.</summary>
internal sealed class ExhaustiveSimulation
{
    private readonly SimulationImage _image;
    private readonly int _schedulesMax;
    private readonly Func<Mutant>? _createMutant;
    private readonly List<(string Programs, int Schedules, bool Complete)> _visited = [];
    private readonly long _started = Stopwatch.GetTimestamp();

    /// <param name="schedulesMax">A combination with more schedules than this is left after so many, in the order of the search, and named in the report.</param>
    internal ExhaustiveSimulation(SimulationImage image, int schedulesMax, Func<Mutant>? createMutant = null)
    {
        _image = image;
        _schedulesMax = schedulesMax;
        _createMutant = createMutant;
    }

    /// <summary>Different schedules so far.</summary>
    internal long Schedules => _visited.Sum(visited => (long)visited.Schedules);

    /// <summary>Combinations whose schedules were not all visited.</summary>
    internal int Incomplete => _visited.Count(visited => !visited.Complete);

    /// <summary>Visits the schedules of one combination.</summary>
    internal void Visit(IReadOnlyList<GuestProgram> programs) => _visited.Add((Name(programs), Explore(programs, fault: null, out bool complete, out _), complete));

    /// <summary>Visits them once more for every storage call of every program, which fails; stops at the first call that no schedule reaches.</summary>
    internal void VisitWithFaults(IReadOnlyList<GuestProgram> programs)
    {
        for (int program = 0; program < programs.Count; program++)
        {
            bool hit = true;
            for (int call = 1; hit; call++)
            {
                int schedules = Explore(programs, (program, call), out bool complete, out hit);
                string name = string.Create(CultureInfo.InvariantCulture, $"{Name(programs)} with call {call} of {program} failing");
                _visited.Add((name, schedules, complete));
            }
        }
    }

    /// <summary>The counts, with the combinations that have most schedules.</summary>
    internal string Report()
    {
        IEnumerable<string> largest = _visited.OrderByDescending(visited => visited.Schedules).Take(8)
            .Select(visited => string.Create(CultureInfo.InvariantCulture, $"  {visited.Programs}: {visited.Schedules}{(visited.Complete ? "" : ", and there are more")}"));
        string summary = string.Create(
            CultureInfo.InvariantCulture,
            $"'{_image.Name}': {Schedules} schedules of {_visited.Count} combinations, {_visited.Count - Incomplete} of them completely, in {Stopwatch.GetElapsedTime(_started).TotalSeconds:F1} s");
        return $"{summary}; most have\n{string.Join('\n', largest)}";
    }

    private int Explore(IReadOnlyList<GuestProgram> programs, (int Program, int Call)? fault, out bool complete, out bool hit)
    {
        ScheduleExplorer explorer = new();
        hit = false;
        complete = true;
        while (explorer.MoveNext())
        {
            if (explorer.Schedules + explorer.Repeats >= _schedulesMax)
            {
                complete = false;
                break;
            }

            hit |= RunOne(programs, explorer, fault);
            explorer.Finished();
        }

        return explorer.Schedules;
    }

    private bool RunOne(IReadOnlyList<GuestProgram> programs, ScheduleExplorer explorer, (int Program, int Call)? fault)
    {
        try
        {
            return SimulationRun.Run(_image, programs, explorer, fault, _createMutant?.Invoke()).FaultHit;
        }
        catch (ScheduleFailedException failure)
        {
            throw new ModelMismatchException($"{failure.Message}\nreplay: {TestBudget.ReplaySchedule(failure.Schedule.ToString())}", failure);
        }
    }

    private static string Name(IReadOnlyList<GuestProgram> programs) => string.Join('+', programs.Select(program => program.Name));
}
