using System.Diagnostics;
using BlockMount.Bench.Servers;
using BlockMount.TestSupport;

namespace BlockMount.Bench.Loads;

/// <summary>One run's figures.</summary>
/// <param name="Result">fio's.</param>
/// <param name="CpuPerRequest">Microseconds of user and system time of the serving process per request; null where nothing serves.</param>
internal sealed record Sample(FioResult Result, double? CpuPerRequest)
{
    /// <summary>The figure, in the metric's unit; null where there is none.</summary>
    public double? Value(Metric metric) => metric switch
    {
        Metric.Iops => Result.Iops,
        Metric.Bandwidth => Result.BytesPerSecond / 1e6,
        Metric.P50 => Result.P50,
        Metric.P99 => Result.P99,
        Metric.P999 => Result.P999,
        Metric.CpuPerRequest => CpuPerRequest,
        _ => 1e6 / Result.Iops,
    };
}

/// <summary>Runs fio against a disk that is served, and looks at the server's CPU time meanwhile.</summary>
internal static class FioRun
{
    // How much earlier than the load the window ends in which CPU time is counted: the start of the load is noticed late by up to this.
    private const double MarginSeconds = 0.2;

    private static readonly TimeSpan s_patience = TimeSpan.FromMinutes(2);

    /// <summary>Settles, measures, and returns the figures.</summary>
    /// <exception cref="OperationCanceledException">Stopped; fio has ended.</exception>
    public static async Task<Sample> MeasureAsync(ServedDisk disk, Load load, RunLength length, CancellationToken stop)
    {
        string[] target = load.Access == Access.Nbd ? FioArguments.OnNbd(disk.Address) : FioArguments.OnFile(disk.Address);
        if (load.Job.WholeBytes > 0)
        {
            return await MeasureWholeAsync(disk, load.Job, FioArguments.Measured(load.Job, length, target), stop);
        }

        Task<string> running = RunAsync(FioArguments.Measured(load.Job, length, target), stop);
        double? cpuShare = disk.Pid is int pid ? await CpuShareAsync(pid, length, running) : null;
        FioResult result = FioResult.Parse(await running, load.Job.Reads);
        return new Sample(result, cpuShare / result.Iops * 1e6);
    }

    /// <summary>Runs fio to its end and returns what it printed.</summary>
    /// <exception cref="OperationCanceledException">Stopped, or it took too long; fio has ended.</exception>
    public static async Task<string> RunAsync(string[] arguments, CancellationToken stop)
    {
        using CancellationTokenSource limit = CancellationTokenSource.CreateLinkedTokenSource(stop);
        limit.CancelAfter(s_patience);
        using Process fio = ToolProcess.Start("fio", arguments);
        await using CancellationTokenRegistration kill = limit.Token.Register(fio.Kill);
        Task<string> output = fio.StandardOutput.ReadToEndAsync(CancellationToken.None);
        Task<string> error = fio.StandardError.ReadToEndAsync(CancellationToken.None);
        await fio.WaitForExitAsync(CancellationToken.None);
        limit.Token.ThrowIfCancellationRequested();
        return fio.ExitCode == 0
            ? await output
            : throw new InvalidOperationException($"fio {string.Join(' ', arguments)} ended with {fio.ExitCode}\n{await output}\n{await error}");
    }

    // The whole run is measured, so its CPU time is simply the difference.
    private static async Task<Sample> MeasureWholeAsync(ServedDisk disk, FioJob job, string[] arguments, CancellationToken stop)
    {
        double? before = disk.Pid is int pid ? ProcessFigures.CpuSeconds(pid) : null;
        FioResult result = FioResult.Parse(await RunAsync(arguments, stop), job.Reads);
        double? after = disk.Pid is int same ? ProcessFigures.CpuSeconds(same) : null;
        return new Sample(result, (after - before) / result.Requests * 1e6);
    }

    // Seconds of CPU per second. fio does not say when it begins, and takes its time on a busy machine; so the server's own CPU time tells, and
    // the window lies within the measured time from there.
    private static async Task<double> CpuShareAsync(int pid, RunLength length, Task running)
    {
        await LoadBeginsAsync(pid, running);
        await Task.WhenAny(running, Task.Delay(TimeSpan.FromSeconds(length.SettleSeconds)));
        Stopwatch window = Stopwatch.StartNew();
        double before = ProcessFigures.CpuSeconds(pid);
        await Task.WhenAny(running, Task.Delay(TimeSpan.FromSeconds(length.MeasuredSeconds - Math.Min(MarginSeconds, length.MeasuredSeconds / 2))));
        return (ProcessFigures.CpuSeconds(pid) - before) / window.Elapsed.TotalSeconds;
    }

    private static async Task LoadBeginsAsync(int pid, Task running)
    {
        // Two ticks of the clock that CPU time is counted in.
        double begun = ProcessFigures.CpuSeconds(pid) + 0.02;
        while (ProcessFigures.CpuSeconds(pid) < begun && !running.IsCompleted)
        {
            await Task.Delay(5);
        }
    }
}
