using BlockMount.Bench.Documents;
using BlockMount.Bench.Loads;
using BlockMount.Bench.Results;
using BlockMount.Bench.Servers;

namespace BlockMount.Bench;

/// <summary>One run of the harness, from the plan to the document.</summary>
internal sealed class BenchSession
{
    // Fixed at construction.
    private readonly BenchSettings _settings;
    private readonly BenchFolder _folder;
    private readonly Measurements _measurements = new();
    private readonly Failures _failures = new();
    private readonly LoadRounds _rounds;
    private readonly LimitFigures _limits;
    private readonly IReadOnlyList<Workload> _rows;
    private readonly IReadOnlyList<LoadGroup> _groups;

    public BenchSession(BenchSettings settings, BenchFolder folder)
    {
        _settings = settings;
        _folder = folder;
        DiskImages images = new(folder.FullPath);
        ServerStarter servers = new(settings, folder.FullPath, images);
        _rounds = new LoadRounds(settings, servers, _measurements, _failures);
        _limits = new LimitFigures(settings, images, servers, _failures);
        _rows = RunPlan.Rows(settings);
        _groups = RunPlan.Groups(settings, _rows);
    }

    /// <summary>Measures everything that is asked for and writes the document. Returns whether every floor held.</summary>
    /// <exception cref="OperationCanceledException">Stopped; nothing serves any more.</exception>
    public async Task<bool> RunAsync(CancellationToken stop)
    {
        if (_groups.Count == 0 && _limits.Estimate() == 0)
        {
            throw new FormatException($"no workload's name contains {string.Join(" or ", _settings.Filters.Select(filter => $"'{filter}'"))}");
        }

        MachineDescription machine = await MachineDescription.ReadAsync(_settings);
        Progress progress = new(Estimate(), _settings.NewerQemu is not null);
        progress.Begin($"images in {_folder.Remark}");
        progress.Head();
        await MeasureLoadsAsync(progress, stop);
        if (_limits.Estimate() > 0)
        {
            progress.Begin("starting, opening, memory");
        }

        BenchRun run = new()
        {
            Rows = _rows,
            Measurements = _measurements,
            Failures = _failures,
            Limits = await _limits.MeasureAsync(progress.Show, stop),
            Contenders = [.. Enum.GetValues<Contender>().Where(contender => contender != Contender.NewerQemu || _settings.NewerQemu is not null)],
        };
        if (_settings.Document is { } path)
        {
            await new BenchDocument(_settings, machine, _folder.Remark).WriteAsync(path, run, _rounds.RingCount);
            Console.WriteLine($"Written: {path}");
        }

        Console.WriteLine($"{run.FloorsMissed} floors and {run.GoalsMissed} goals missed");
        return run.FloorsMissed == 0;
    }

    private async Task MeasureLoadsAsync(Progress progress, CancellationToken stop)
    {
        HashSet<Workload> shown = [];
        foreach (LoadGroup group in _groups)
        {
            IReadOnlyList<(Load Load, Contender Contender)> runs = _rounds.Missing(group);
            if (runs.Count > 0)
            {
                progress.Begin(string.Join("; ", runs.Select(run => run.Load.Name).Distinct()));
                double estimate = _rounds.Estimate(group, runs);
                await _rounds.MeasureAsync(group, stop);
                progress.Done(estimate);
            }

            Workload[] rows = [.. _rows.Where(row => group.Loads.Contains(row.Load) && shown.Add(row))];
            foreach (Workload row in rows)
            {
                progress.Show(row, _measurements);
            }

            foreach (Load load in runs.Select(run => run.Load).Distinct().Where(load => !_rows.Any(row => row.Load == load)))
            {
                progress.Show(load, _measurements);
            }
        }
    }

    // Each load counts with the group that measures it first.
    private double Estimate()
    {
        HashSet<(Load, Contender)> counted = [];
        return 20 + _limits.Estimate() + _groups.Sum(group => _rounds.Estimate(group, [.. _rounds.Missing(group).Where(counted.Add)]));
    }
}
