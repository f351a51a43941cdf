using System.Diagnostics;
using System.Runtime.InteropServices;
using BlockMount.Exports.Fuse;
using Xunit;

namespace BlockMount.Interop.Fuse;

/// <summary>A serving thread beside a busy one, on the same processor.</summary>
[Collection(RunAlone.Name)]
public sealed unsafe partial class ServingClassTests
{
    private static readonly TimeSpan s_limit = TimeSpan.FromSeconds(60);

    [Fact]
    public void Thread_BesideABusyOne_TakesTheNormalClassAndGoesBack()
    {
        bool stop = false;
        Thread busy = new(() => Spin(ref stop)) { IsBackground = true };
        busy.Start();
        (bool becameNormal, bool beganAgain, bool wentBack) = (false, false, false);
        Thread serving = new(() =>
        {
            PinToFirstProcessor();
            ServingClass servingClass = new();
            servingClass.Begin();
            becameNormal = ServeUntil(servingClass, () => servingClass.IsNormal);
            // As after a time of being confined.
            servingClass.Begin();
            beganAgain = !servingClass.IsNormal && ServeUntil(servingClass, () => servingClass.IsNormal);
            Volatile.Write(ref stop, true);
            wentBack = ServeUntil(servingClass, () => !servingClass.IsNormal);
        });
        serving.Start();
        serving.Join();
        busy.Join();

        Assert.True(becameNormal, "the thread waits for whole time slices");
        Assert.True(beganAgain, "a class that was chosen before counts as the present one");
        Assert.True(wentBack, "the machine is idle again, and the thread still pushes others aside");
    }

    // A request comes every millisecond.
    private static bool ServeUntil(ServingClass servingClass, Func<bool> reached)
    {
        Stopwatch watch = Stopwatch.StartNew();
        while (!reached() && watch.Elapsed < s_limit)
        {
            Thread.Sleep(1);
            servingClass.Served();
        }

        return reached();
    }

    private static void Spin(ref bool stop)
    {
        PinToFirstProcessor();
        Stopwatch watch = Stopwatch.StartNew();
        while (!Volatile.Read(ref stop) && watch.Elapsed < s_limit * 2)
        {
        }
    }

    private static void PinToFirstProcessor()
    {
        ulong mask = 1;
        Assert.Equal(0, sched_setaffinity(0, sizeof(ulong), &mask));
    }

    [LibraryImport("libc")]
    private static partial int sched_setaffinity(int thread, nuint size, ulong* mask);
}
