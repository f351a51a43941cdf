namespace BlockMount.TestSupport.Simulation;

/// <summary>Decides which step comes next. One instance serves one schedule, or, like <see cref="ScheduleExplorer"/>, one after the other.</summary>
public abstract class ScheduleChooser
{
    /// <summary>Index of the step to take. <paramref name="possible"/> is not empty; its order follows from the choices before.</summary>
    public abstract int Choose(IReadOnlyList<ScheduleStep> possible);
}

/// <summary>Repeats a schedule from its list of choices; goes on with the first step where the list ends.</summary>
public sealed class ReplayedChoices(IReadOnlyList<int> choices) : ScheduleChooser
{
    private readonly IReadOnlyList<int> _choices = choices;
    private int _next;

    /// <inheritdoc/>
    public override int Choose(IReadOnlyList<ScheduleStep> possible) =>
        _next < _choices.Count ? Math.Min(_choices[_next++], possible.Count - 1) : 0;
}

/// <summary>Any step, all equally likely.</summary>
public sealed class RandomChoices(Random random) : ScheduleChooser
{
    private readonly Random _random = random;

    /// <inheritdoc/>
    public override int Choose(IReadOnlyList<ScheduleStep> possible) => _random.Next(possible.Count);
}

/// <summary>
/// Storage with latencies: each call takes a time of its own, mostly short, now and then very long; code runs as soon as it can. The time is that of
/// <paramref name="time"/>, which goes on by it, so that timers and calls meet in the order of their times.
/// </summary>
public sealed class LatencyChoices(Random random, ManualTime time) : ScheduleChooser
{
    private readonly Random _random = random;
    private readonly ManualTime _time = time;
    private readonly Dictionary<(int Operation, int Number), long> _due = [];

    /// <inheritdoc/>
    public override int Choose(IReadOnlyList<ScheduleStep> possible)
    {
        int best = 0;
        long bestDue = long.MaxValue;
        for (int i = 0; i < possible.Count; i++)
        {
            long due = DueOf(possible[i]);
            if (due < bestDue)
            {
                (best, bestDue) = (i, due);
            }
        }

        _due.Remove((possible[best].Operation, possible[best].Number));
        _time.AdvanceTo(bestDue);
        return best;
    }

    private long DueOf(in ScheduleStep step)
    {
        (int Operation, int Number) key = (step.Operation, step.Number);
        if (!_due.TryGetValue(key, out long due))
        {
            due = _time.GetTimestamp() + (step.Kind == ScheduleStepKind.Run ? _random.Next(3) : Latency());
            _due.Add(key, due);
        }

        return due;
    }

    private int Latency() => _random.Next(12) switch { 0 => _random.Next(2000, 20000), < 4 => _random.Next(200, 2000), _ => _random.Next(1, 200) };
}
