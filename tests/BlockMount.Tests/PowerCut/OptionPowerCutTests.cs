using BlockMount.Formats.Qcow2.Check;
using BlockMount.TestSupport;
using BlockMount.TestSupport.Crash;
using BlockMount.TestSupport.Images;
using BlockMount.TestSupport.Model;
using Xunit;
using Xunit.Abstractions;

namespace BlockMount.Tests.PowerCut;

/// <summary>Power cuts under the run-time options that change what is written when: lazy refcounts and discard-no-unref.</summary>
[Trait("Suite", "Random")]
public sealed class OptionPowerCutTests(ITestOutputHelper output)
{
    private const int Cluster = 4096;

    [Fact]
    public async Task PowerCut_WithLazyRefcounts_LosesNothingFlushed_AndIsRepaired()
    {
        int states = 0;
        int stale = 0;
        foreach (int seed in TestBudget.Seeds(80_000, 40))
        {
            PowerCutRun run = await PowerCutRun.SequentialAsync(seed, Lazy);
            (int judged, CrashVerdict verdict) = await run.JudgeAsync(visit: async image => stale += await IsStaleAsync(image) ? 1 : 0);
            Assert.True(verdict.IsGood, run.Explain(verdict, nameof(PowerCut_WithLazyRefcounts_LosesNothingFlushed_AndIsRepaired)));
            states += judged;
        }

        output.WriteLine($"{states} states, {stale} of them dirty with stale refcounts");
        Assert.True(stale * 20 > states || TestBudget.Seed is not null, $"only {stale} of {states}");
    }

    [Fact]
    public async Task PowerCut_WithLazyRefcountsAndOperationsInFlight_LosesNothingFlushed()
    {
        int states = 0;
        foreach (int seed in TestBudget.Seeds(81_000, 20))
        {
            PowerCutRun run = PowerCutRun.Concurrent(seed, adapt: Lazy);
            (int judged, CrashVerdict verdict) = await run.JudgeAsync();
            Assert.True(verdict.IsGood, run.Explain(verdict, nameof(PowerCut_WithLazyRefcountsAndOperationsInFlight_LosesNothingFlushed)));
            states += judged;
        }

        output.WriteLine($"{states} states");
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task PowerCut_WithDiscardNoUnref_LosesNothingFlushed(bool concurrent)
    {
        int states = 0;
        foreach (int seed in TestBudget.Seeds(82_000, 20))
        {
            PowerCutRun run = concurrent ? PowerCutRun.Concurrent(seed, adapt: NoUnref) : await PowerCutRun.SequentialAsync(seed, NoUnref);
            (int judged, CrashVerdict verdict) = await run.JudgeAsync();
            Assert.True(verdict.IsGood, run.Explain(verdict, nameof(PowerCut_WithDiscardNoUnref_LosesNothingFlushed)));
            states += judged;
        }

        output.WriteLine($"{states} states");
    }

    // The refcounts are being made exact when the power goes again.
    [Fact]
    public async Task PowerCut_DuringTheRepairOfADirtyImage_LosesNothingFlushed()
    {
        int states = 0;
        int repaired = 0;
        foreach (int seed in TestBudget.Seeds(83_000, 15))
        {
            PowerCutRun first = await PowerCutRun.SequentialAsync(seed, Lazy);
            List<CrashImage> left = [];
            Random random = new(seed);
            await first.JudgeAsync(visit: async image =>
            {
                if (random.Next(30) == 0 && await IsStaleAsync(image))
                {
                    left.Add(image.Copy());
                }
            });
            foreach (CrashImage image in left)
            {
                repaired++;
                PowerCutRun second = await PowerCutRun.AfterCrashAsync(seed, first, image);
                (int judged, CrashVerdict verdict) = await second.JudgeAsync();
                Assert.True(verdict.IsGood, second.Explain(verdict, nameof(PowerCut_DuringTheRepairOfADirtyImage_LosesNothingFlushed)));
                states += judged;
            }
        }

        output.WriteLine($"{repaired} repairs, {states} states");
        Assert.True(repaired > 0 || TestBudget.Seed is not null);
    }

    // The row of the write order that lazy refcounts add: the dirty bit before the tables.
    [Fact]
    public async Task FlushOfTheDirtyBitLost_RefcountIsTooLowWithoutAnyMark()
    {
        ImageGeometry geometry = new() { ClusterBits = 12, Size = 8 * Cluster, TinyCache = false, LazyRefcounts = true };
        // The clusters lie inside the file, so that nothing but the mark needs the flush.
        GuestOperation[] operations =
        [
            new(GuestOperationKind.Write, 0, 2 * Cluster, 1),
            new(GuestOperationKind.Discard, 0, Cluster, 0),
            new(GuestOperationKind.Reopen, 0, 0, 0),
            new(GuestOperationKind.Write, 3 * Cluster, Cluster, 2),
            new(GuestOperationKind.Flush, 0, 0, 0),
        ];
        PowerCutRun run = await PowerCutRun.OfAsync(seed: 5, geometry, operations);
        (int states, CrashVerdict honest) = await run.JudgeAsync();
        Assert.True(honest.IsGood, honest.Description);
        StorageLogEntry[] flushes = [.. run.Log.Entries.Where(entry => entry.Kind == StorageCalls.Flush)];
        // Another flush follows each of the two, so one of them alone is not missed.
        int found = 0;
        for (int i = 1; i < flushes.Length; i++)
        {
            (StorageLogEntry first, StorageLogEntry second) = (flushes[i - 1], flushes[i]);
            (int _, CrashVerdict verdict) = await run.JudgeAsync(entry => entry == first || entry == second, wanted: CrashFault.Corrupt);
            found += verdict.Fault == CrashFault.Corrupt ? 1 : 0;
        }

        output.WriteLine($"{states} states; {found} of {flushes.Length - 1} pairs of lost flushes leave refcounts that are too low without the mark");
        // At least those between the mark and the tables, and those between the refcounts and the removal of the mark.
        Assert.True(found >= 2, $"{found}");
    }

    private static ImageGeometry Lazy(ImageGeometry geometry) => geometry with
    {
        LazyRefcounts = true,
        Version = 3,
    };

    private static ImageGeometry NoUnref(ImageGeometry geometry) => geometry with { DiscardNoUnref = true, Version = 3 };

    private static async ValueTask<bool> IsStaleAsync(CrashImage image)
    {
        if (!image.IsDirty)
        {
            return false;
        }

        CheckReport report = await ConsistencyCheck.RunAsync(MemoryFile.Adopt(image.Bytes, image.Length, "crashed", readOnly: true));
        return report.Corruptions > 0;
    }
}
