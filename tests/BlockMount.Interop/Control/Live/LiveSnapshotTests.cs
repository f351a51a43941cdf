using System.Globalization;
using BlockMount.Control.Json;
using BlockMount.TestSupport;
using Xunit;
using Xunit.Abstractions;

namespace BlockMount.Interop.Control.Live;

/// <summary>100 blockdev-snapshot-sync while six threads read and write through the mounted file and through NBD: no wrong byte, and nobody waits for long.</summary>
[Collection(RunAlone.Name)]
public sealed class LiveSnapshotTests(ITestOutputHelper output) : LiveFixture
{
    private const int Snapshots = 100;

    // Reads are to be this many times as slow at most, in the 99th of 100.
    private const double SlowdownMax = 3;
    private const double ReadMsMax = 5000;

    private static readonly TimeSpan s_idleTime = TimeSpan.FromSeconds(Strict ? 6 : 3);
    private static readonly TimeSpan s_pause = TimeSpan.FromMilliseconds(50);

    [RequiresReleaseFact("qemu-img")]
    public async Task AHundredSnapshots_DuringVerifiedIo_KeepEveryByteAndStallNobody()
    {
        byte[] model = await MountAsync();
        using TimedMonitor monitor = new(Monitor);
        using VerifiedLoad load = new(model);
        for (int i = 0; i < 6; i++)
        {
            load.Start(i, i * Area, Area, [.. Ports(i)]);
        }

        await Task.Delay(TimeSpan.FromSeconds(2));
        _ = load.Phase();
        await Task.Delay(s_idleTime);
        double[] idle = load.Phase();
        long before = load.Requests;
        List<double> asked = await SnapshotsAsync(monitor);
        double[] busy = load.Phase();
        long requests = load.Requests - before;
        load.Stop();

        Report(idle, busy, requests, monitor.Replies, asked);
        await EverythingIsThereAsync(monitor, model);
        Judge(idle, busy, [.. monitor.Replies, .. asked]);
    }

    // Through the file, through NBD, and through both in turns.
    private IEnumerable<IDiskPort> Ports(int thread)
    {
        if (thread % 3 != 1)
        {
            yield return new FilePort(this["m"]);
        }

        if (thread % 3 != 0)
        {
            yield return new NbdPort(Nbd, "disk");
        }
    }

    // Beside it another client of the monitor keeps asking; returns how long it waited for its replies.
    private async Task<List<double>> SnapshotsAsync(TimedMonitor monitor)
    {
        using TimedMonitor second = new(Monitor);
        using CancellationTokenSource done = new();
        Task asking = Task.Run(() =>
        {
            while (!done.IsCancellationRequested)
            {
                _ = second.Execute("query-block");
                _ = done.Token.WaitHandle.WaitOne(TimeSpan.FromMilliseconds(20));
            }
        });
        monitor.Replies.Clear();
        for (int i = 0; i < Snapshots; i++)
        {
            string file = this[string.Create(CultureInfo.InvariantCulture, $"s{i}")];
            _ = monitor.Execute("blockdev-snapshot-sync", new JsonObject
            {
                ["device"] = "drive0",
                ["snapshot-file"] = file,
                ["format"] = "qcow2",
                ["mode"] = "absolute-paths",
            });
            Layers.Add(file);
            await Task.Delay(s_pause);
        }

        await done.CancelAsync();
        await asking;
        return second.Replies;
    }

    private void Report(double[] idle, double[] busy, long requests, List<double> snapshots, List<double> queries)
    {
        output.WriteLine($"reads p99 idle {Ms(Quantile(idle, 0.99))} of {idle.Length}, during snapshots {Ms(Quantile(busy, 0.99))} of {busy.Length}: {Quantile(busy, 0.99) / Quantile(idle, 0.99):0.00} times");
        output.WriteLine($"reads p50 {Ms(Quantile(idle, 0.5))} and {Ms(Quantile(busy, 0.5))}, p99.9 {Ms(Quantile(idle, 0.999))} and {Ms(Quantile(busy, 0.999))}, longest {Ms(idle[^1])} and {Ms(busy[^1])}");
        output.WriteLine($"snapshot replies: median {Ms(Quantile([.. snapshots.Order()], 0.5))}, longest {Ms(snapshots.Max())}; {queries.Count} query-block replies: longest {Ms(queries.Max())}");
        output.WriteLine(TestBudget.Count(snapshots.Count, "live snapshots under verified I/O") + ", " + TestBudget.Count(requests, "requests verified during live snapshots"));
    }

    private async Task EverythingIsThereAsync(TimedMonitor monitor, byte[] model)
    {
        using (FilePort file = new(this["m"]))
        using (NbdPort nbd = new(Nbd, "disk"))
        {
            MustHold(file, model);
            MustHold(nbd, model);
        }

        await QuitAsync(monitor);
        await ChainHoldsAsync(Layers, model);
    }

    private static void Judge(double[] idle, double[] busy, double[] replies)
    {
        Assert.InRange(replies.Max(), 0, ReplyMsMax);
        Assert.InRange(Quantile(busy, 0.99), 0, Strict ? SlowdownMax * Quantile(idle, 0.99) : ReadMsMax);
    }
}
