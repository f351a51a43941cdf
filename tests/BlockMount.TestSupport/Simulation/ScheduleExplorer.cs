using System.Diagnostics;
using System.Numerics;

namespace BlockMount.TestSupport.Simulation;

/// <summary>
/// Visits schedules of one fixed set of operations until every schedule that can make a difference has been visited: depth first, each one a run from the
/// beginning. Use: <c>while (explorer.MoveNext()) { run everything with the explorer as chooser; explorer.Finished(); }</c>
/// <para>Schedules that differ in the order of steps which commute (<see cref="ScheduleStep.DependsOn"/>) are the same for everybody; at least one of
/// each such class is visited. Two reductions bring that about. Dynamic partial order reduction: another choice is tried at a point only if a
/// later step of the finished run raced with the step chosen there, that is, the two depend on each other and nothing else forced their order. Sleep sets:
/// a step whose alternatives have been visited is not tried again until something that it depends on has happened; a run in which nothing but sleeping
/// steps is left repeats an earlier one (it is run to its end, but counted apart).</para>
/// <para>That is exhaustive as long as runs repeat themselves exactly, which is checked at every step, and the assumptions of DependsOn hold.</para>
/// </summary>
public sealed class ScheduleExplorer : ScheduleChooser
{
    private readonly bool _reduce;
    private readonly List<Point> _path = [];
    private int _depth;
    private int _firstNew;
    private bool _repeats;
    private bool _started;

    /// <param name="reduce">False visits every order of steps, whatever commutes: to prove the reduction.</param>
    public ScheduleExplorer(bool reduce = true)
    {
        _reduce = reduce;
    }

    /// <summary>Schedules visited that no earlier one was equal to.</summary>
    public int Schedules { get; private set; }

    /// <summary>Runs that turned out to repeat an earlier schedule.</summary>
    public int Repeats { get; private set; }

    /// <summary>Prepares the next run; false when there is nothing left to visit.</summary>
    public bool MoveNext()
    {
        if (!_started)
        {
            _started = true;
            return true;
        }

        while (_path.Count > 0)
        {
            Point last = _path[^1];
            last.Done |= 1u << last.Chosen;
            uint open = last.Wanted & ~last.Done & ~last.Sleeping;
            if (open != 0)
            {
                last.Chosen = BitOperations.TrailingZeroCount(open);
                _firstNew = _path.Count - 1;
                _depth = 0;
                _repeats = false;
                return true;
            }

            _path.RemoveAt(_path.Count - 1);
        }

        return false;
    }

    /// <summary>The run has come to its end: finds out what else must be tried.</summary>
    public void Finished()
    {
        Debug.Assert(_depth == _path.Count);
        if (_repeats)
        {
            Repeats++;
        }
        else
        {
            Schedules++;
        }

        if (_reduce)
        {
            new RaceAnalysis(_path).WantReversals(_firstNew);
        }
    }

    /// <inheritdoc/>
    public override int Choose(IReadOnlyList<ScheduleStep> possible)
    {
        if (_depth == _path.Count)
        {
            _path.Add(NewPoint(possible));
        }

        Point point = _path[_depth++];
        if (point.Steps.Length != possible.Count || !point.Steps[point.Chosen].Equals(possible[point.Chosen]))
        {
            throw new SimulationException($"the run does not repeat itself: step {_depth} is not the same as before");
        }

        return point.Chosen;
    }

    private Point NewPoint(IReadOnlyList<ScheduleStep> possible)
    {
        ScheduleStep[] steps = [.. possible];
        Debug.Assert(steps.Length <= 32);
        uint all = uint.MaxValue >> (32 - steps.Length);
        Point point = new() { Steps = steps, Since = new int[steps.Length] };
        Point? before = _path.Count > 0 ? _path[^1] : null;
        for (int i = 0; i < steps.Length; i++)
        {
            int earlier = before?.IndexOf(steps[i]) ?? -1;
            point.Since[i] = earlier < 0 ? _path.Count : before!.Since[earlier];
            bool sleeps = earlier >= 0 && ((before!.Sleeping | before.Done) >> earlier & 1) != 0 && !steps[i].DependsOn(before.Steps[before.Chosen]);
            point.Sleeping |= sleeps ? 1u << i : 0;
        }

        if (!_reduce)
        {
            point.Sleeping = 0;
            point.Wanted = all;
        }

        _repeats |= point.Sleeping == all;
        point.Sleeping = _repeats ? all : point.Sleeping;
        point.Chosen = First(steps, _repeats ? 0 : point.Sleeping);
        point.Wanted |= 1u << point.Chosen;
        return point;
    }

    // Code before effects: storage calls stay in flight as long as they can, which is when things meet.
    private static int First(ScheduleStep[] steps, uint sleeping)
    {
        int first = -1;
        for (int i = 0; i < steps.Length; i++)
        {
            bool awake = (sleeping >> i & 1) == 0;
            if (awake && (first < 0 || (steps[i].Kind == ScheduleStepKind.Run && steps[first].Kind == ScheduleStepKind.Effect)))
            {
                first = i;
            }
        }

        return first;
    }

    /// <summary>A point of the current path: what was possible, what was chosen, and what is left to try. Sets of steps are bits by index.</summary>
    internal sealed class Point
    {
        internal required ScheduleStep[] Steps { get; init; }

        /// <summary>For each step, the depth of the first point at which it was possible.</summary>
        internal required int[] Since { get; init; }

        internal int Chosen { get; set; }

        internal uint Wanted { get; set; }

        internal uint Done { get; set; }

        internal uint Sleeping { get; set; }

        internal ScheduleStep Step => Steps[Chosen];

        internal int IndexOf(in ScheduleStep step)
        {
            for (int i = 0; i < Steps.Length; i++)
            {
                if (Steps[i].IsSameAs(step))
                {
                    return i;
                }
            }

            return -1;
        }
    }
}
