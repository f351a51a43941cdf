using BlockMount.Bench.Loads;
using BlockMount.Bench.Results;
using BlockMount.Bench.Servers;

namespace BlockMount.Bench;

/// <summary>
/// Measures groups of loads in rounds: each contender once per round, each round with another one first, so that what else the machine does
/// hits all alike.
/// </summary>
internal sealed class LoadRounds(BenchSettings settings, ServerStarter servers, Measurements measurements, Failures failures)
{
    /// <summary>io_uring descriptors that BlockMount had open at the end of its last load through a mount; null before the first.</summary>
    public int? RingCount { get; private set; }

    /// <summary>Rounds that a group gets.</summary>
    public int RoundsOf(LoadGroup group) => group.Supplementary ? (settings.Rounds + 1) / 2 : settings.Rounds;

    /// <summary>The runs of one round that are still needed: what an earlier group has measured is not measured again.</summary>
    public IReadOnlyList<(Load Load, Contender Contender)> Missing(LoadGroup group) =>
    [
        .. group.Loads.SelectMany(load => group.Contenders(load, settings.NewerQemu is not null).Select(contender => (load, contender)))
            .Where(run => measurements.Rounds(run.load, run.contender) == 0 && !failures.Has(run.load.Name, run.contender)),
    ];

    /// <summary>Seconds that a group takes, about.</summary>
    public double Estimate(LoadGroup group, IReadOnlyList<(Load Load, Contender Contender)> runs) =>
        RoundsOf(group) * runs.Sum(run => SecondsOf(settings.Length(run.Load, run.Contender), run.Load));

    /// <summary>Measures a group.</summary>
    public async Task MeasureAsync(LoadGroup group, CancellationToken stop)
    {
        IReadOnlyList<(Load Load, Contender Contender)> runs = Missing(group);
        for (int round = 0; round < RoundsOf(group); round++)
        {
            for (int index = 0; index < runs.Count; index++)
            {
                stop.ThrowIfCancellationRequested();
                (Load load, Contender contender) = runs[(index + round) % runs.Count];
                await TryRunAsync(load, contender, stop);
            }
        }
    }

    // One contender that cannot do one load (a chain too deep for it, say) is a result, and no reason to throw the others away.
    private async Task TryRunAsync(Load load, Contender contender, CancellationToken stop)
    {
        if (failures.Has(load.Name, contender))
        {
            return;
        }

        try
        {
            measurements.Add(load, contender, await RunAsync(load, contender, stop));
        }
        catch (Exception error) when (error is InvalidOperationException or IOException or TimeoutException && !stop.IsCancellationRequested)
        {
            failures.Add(load.Name, contender, error.Message);
        }
    }

    private async Task<Sample> RunAsync(Load load, Contender contender, CancellationToken stop)
    {
        await using ServedDisk disk = await servers.StartAsync(contender, load);
        await using BusyProcessors? neighbours = load.Busy ? await BusyProcessors.StartAsync() : null;
        Sample sample = await FioRun.MeasureAsync(disk, load, settings.Length(load, contender), stop);
        if (contender == Contender.BlockMount && load.Access == Access.Fuse && disk.Pid is int pid)
        {
            RingCount = ProcessFigures.RingCount(pid);
        }

        return sample;
    }

    // Starting and ending a server and fio take most of a second together.
    private static double SecondsOf(RunLength length, Load load) => load.Job.WholeBytes > 0 ? 3 : 0.7 + length.SettleSeconds + length.MeasuredSeconds;
}
