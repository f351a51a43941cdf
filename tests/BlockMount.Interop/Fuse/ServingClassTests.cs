using System.Diagnostics;
using System.Runtime.InteropServices;
using BlockMount.Base.Interop;
using BlockMount.Exports.Fuse;
using Xunit;

namespace BlockMount.Interop.Fuse;

/// <summary>The scheduling class of a serving thread, as the kernel has it.</summary>
[Collection(RunAlone.Name)]
public sealed unsafe partial class ServingClassTests
{
    private const int SCHED_OTHER = 0;
    private const int SCHED_BATCH = 3;
    private const long Millisecond = 1_000_000;
    private static readonly TimeSpan s_limit = TimeSpan.FromSeconds(60);

    // How long the thread waits beside a busy one depends on everything else that runs: here the test says it.
    [Fact]
    public void ThreadThatWaits_TakesTheNormalClassAndGoesBack() => RunOnAThreadOfItsOwn(() =>
    {
        long delay = 0;
        long perRequest = Millisecond;
        ServingClass servingClass = new(() => delay);
        servingClass.Begin();
        Assert.Equal(SCHED_BATCH, sched_getscheduler(0));
        Assert.True(ServeUntil(servingClass, () => servingClass.IsNormal, () => delay += perRequest), "the thread waits for whole time slices");
        Assert.Equal(SCHED_OTHER, sched_getscheduler(0));

        // As after a time of being confined.
        servingClass.Begin();
        Assert.Equal((false, SCHED_BATCH), (servingClass.IsNormal, sched_getscheduler(0)));
        Assert.True(
            ServeUntil(servingClass, () => servingClass.IsNormal, () => delay += perRequest), "a class that was chosen before counts as the present one");

        perRequest = Millisecond / 10;
        Assert.True(
            ServeUntil(servingClass, () => !servingClass.IsNormal, () => delay += perRequest), "the machine is idle again, and the thread still pushes others aside");
        Assert.Equal(SCHED_BATCH, sched_getscheduler(0));
        Assert.False(ServeFor(TimeSpan.FromMilliseconds(500), servingClass, () => delay += perRequest), "a wait that is short does not count");
    });

    [Fact]
    public void TheKernelCountsHowLongAThreadWaits()
    {
        // Two that spin on one processor share it, so each waits about half of the time.
        bool stop = false;
        Thread busy = new(() => Spin(() => Volatile.Read(ref stop))) { IsBackground = true };
        busy.Start();
        long waited = 0;
        RunOnAThreadOfItsOwn(() =>
        {
            long before = LibcThread.RunDelay();
            Stopwatch watch = Stopwatch.StartNew();
            Spin(() => watch.Elapsed > TimeSpan.FromMilliseconds(500));
            waited = LibcThread.RunDelay() - before;
        });
        Volatile.Write(ref stop, true);
        busy.Join();
        Assert.InRange(waited, 20 * Millisecond, (long)s_limit.TotalMilliseconds * Millisecond);
    }

    // A request comes every millisecond.
    private static bool ServeUntil(ServingClass servingClass, Func<bool> reached, Action wait)
    {
        Stopwatch watch = Stopwatch.StartNew();
        while (!reached() && watch.Elapsed < s_limit)
        {
            Thread.Sleep(1);
            wait();
            servingClass.Served();
        }

        return reached();
    }

    private static bool ServeFor(TimeSpan time, ServingClass servingClass, Action wait)
    {
        Stopwatch watch = Stopwatch.StartNew();
        return ServeUntil(servingClass, () => servingClass.IsNormal || watch.Elapsed > time, wait) && servingClass.IsNormal;
    }

    private static void RunOnAThreadOfItsOwn(Action action)
    {
        Exception? failure = null;
        Thread thread = new(() => failure = Record.Exception(action));
        thread.Start();
        thread.Join();
        Assert.Null(failure);
    }

    private static void Spin(Func<bool> until)
    {
        ulong mask = 1;
        Assert.Equal(0, sched_setaffinity(0, sizeof(ulong), &mask));
        Stopwatch watch = Stopwatch.StartNew();
        while (!until() && watch.Elapsed < s_limit * 2)
        {
        }
    }

    [LibraryImport("libc")]
    private static partial int sched_setaffinity(int thread, nuint size, ulong* mask);

    [LibraryImport("libc")]
    private static partial int sched_getscheduler(int thread);
}
