namespace BlockMount.Bench;

/// <summary>The medians of one workload.</summary>
internal sealed record Row(Workload Workload, double Ours, double Theirs)
{
    public double Ratio => Theirs > 0 ? Ours / Theirs : 0;

    /// <summary>"holds" or "MISSES", against the floor, by the ratio as it is printed.</summary>
    public string Verdict => (Workload.LessIsBetter ? Math.Round(Ratio, 2) <= Workload.Floor : Math.Round(Ratio, 2) >= Workload.Floor) ? "holds" : "MISSES";
}

/// <summary>Runs both sides in turn on the same image, so that what else the machine does hits both alike.</summary>
internal sealed class Comparison(BenchSettings settings, string folder, string image)
{
    // One load can answer two rows (IOPS and p99, IOPS and CPU): run it once.
    private readonly Dictionary<(bool Nbd, FioJob Job), (List<Run> Ours, List<Run> Theirs)> _runs = [];
    private int _served;

    /// <summary>Measures one row.</summary>
    public async Task<Row> MeasureAsync(Workload workload)
    {
        (bool, FioJob) load = (workload.Nbd, workload.Job);
        if (!_runs.TryGetValue(load, out (List<Run> Ours, List<Run> Theirs) runs))
        {
            runs = ([], []);
            for (int pair = 0; pair < settings.Pairs; pair++)
            {
                // Neither side is always the first.
                bool oursFirst = pair % 2 == 0;
                Run first = await RunAsync(workload, ours: oursFirst);
                Run second = await RunAsync(workload, ours: !oursFirst);
                runs.Ours.Add(oursFirst ? first : second);
                runs.Theirs.Add(oursFirst ? second : first);
            }

            _runs.Add(load, runs);
        }

        return new Row(workload, Median(runs.Ours, workload.Metric), Median(runs.Theirs, workload.Metric));
    }

    private async Task<Run> RunAsync(Workload workload, bool ours)
    {
        string id = $"disk{_served++}";
        string served = workload.FreshOverlay ? await BenchImages.OverlayAsync(folder, "overlay.qcow2", image) : image;
        await using ServedDisk disk = (ours, workload.Nbd) switch
        {
            (true, _) => await ServedDisk.BlockMountAsync(folder, served, workload.Nbd, id),
            (false, true) => await ServedDisk.QemuNbdAsync(folder, served, id),
            (false, false) => await ServedDisk.QemuFuseAsync(folder, served, id),
        };
        if (!workload.FreshOverlay)
        {
            // Tiered compilation reaches the hot loops, and caches fill, before anything counts; for both sides.
            _ = await LoadAsync(disk, workload, seconds: 1);
        }

        double before = disk.CpuSeconds();
        FioResult result = await LoadAsync(disk, workload, settings.Seconds);
        return new Run(result, disk.CpuSeconds() - before);
    }

    private static Task<FioResult> LoadAsync(ServedDisk disk, Workload workload, int seconds) =>
        workload.Nbd ? Fio.OnNbdAsync(disk.Address, workload.Job, seconds) : Fio.OnFileAsync(disk.Address, workload.Job, seconds);

    private static double Median(List<Run> runs, Metric metric)
    {
        double[] values = [.. runs.Select(run => run.Value(metric)).Order()];
        int middle = values.Length / 2;
        return values.Length % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
    }

    private sealed record Run(FioResult Result, double CpuSeconds)
    {
        public double Value(Metric metric) => metric switch
        {
            Metric.Iops => Result.Iops,
            Metric.Bandwidth => Result.BytesPerSecond / 1e6,
            Metric.P99 => Result.P99Microseconds,
            _ => Result.Requests > 0 ? CpuSeconds / Result.Requests * 1e6 : 0,
        };
    }
}
