using BlockMount.TestSupport;
using BlockMount.TestSupport.Faults;
using BlockMount.TestSupport.Images;
using BlockMount.TestSupport.Model;
using Xunit;
using Xunit.Abstractions;

namespace BlockMount.Tests.FailNth;

/// <summary>Random operations on random images with each of their storage calls failing, beyond the fixed matrix of <see cref="FailNthTests"/>.</summary>
[Trait("Suite", "Random")]
public sealed class RandomFailNthTests(ITestOutputHelper output)
{
    private const int FirstSeed = 100_000;
    private const int Seeds = 600;
    private const int SizeMax = 32 << 10;

    private static readonly WorkloadMix s_mix = new()
    {
        { GuestOperationKind.Read, 10 },
        { GuestOperationKind.Write, 30 },
        { GuestOperationKind.WriteCompressed, 10 },
        { GuestOperationKind.Zero, 10 },
        { GuestOperationKind.ZeroMayUnmap, 10 },
        { GuestOperationKind.Discard, 15 },
        { GuestOperationKind.Flush, 5 },
        { GuestOperationKind.Resize, 10 },
    };

    [Fact]
    public async Task RandomOperation_EveryStorageCallFailing_LeavesOldOrNewDataAndAValidImage()
    {
        int failures = 0;
        foreach (int seed in TestBudget.Seeds(FirstSeed, Seeds))
        {
            try
            {
                failures += await RunAsync(seed);
            }
            catch (Exception error) when (error is ModelMismatchException or InvalidOperationException)
            {
                throw new ModelMismatchException($"{error.Message}\nreplay: {TestBudget.Replay(seed, nameof(RandomFailNthTests))}", error);
            }
        }

        output.WriteLine(TestBudget.Count(failures, "failing calls of random operations", 1_500));
    }

    // Growth of the refcount table: most calls of it are made nowhere else.
    [Fact]
    public async Task RefcountTableGrows_EveryStorageCallFailing_LeavesAValidImage()
    {
        TestChain chain = await GrownImage.BeforeItsTableGrowsAsync(lazyRefcounts: false);
        FailNthRun run = FailNthRun.On(chain);
        int failures = 0;
        foreach (FaultPlan plan in new FaultPlan[] { new() { FailFrom = 1 }, new() { FailFrom = 1, Forever = true } })
        {
            failures += await run.FailEveryCallAsync(GrownImage.s_operations[2], plan, fromOpen: false);
        }

        output.WriteLine(TestBudget.Count(failures, "failing calls while tables grow"));
        Assert.True(failures > 50, $"only {failures} calls failed");
    }

    private static async Task<int> RunAsync(int seed)
    {
        Random random = new(seed);
        ImageGeometry geometry = ImageGeometry.Choose(random, SizeMax / 2);
        WorkloadGenerator generator = new(random, geometry.ClusterSize, geometry.Size, SizeMax, granularity: 1, s_mix);
        FailNthRun run = await FailNthRun.PrepareAsync(geometry, generator.Take(15));
        GuestOperation operation = generator.Next().ClippedTo(run.Size);
        FaultPlan plan = FailNthMatrix.s_plans[random.Next(FailNthMatrix.s_plans.Length)];
        bool onDataFile = geometry.DataFile != DataFileKind.None && random.Next(2) == 0;
        return operation.IsEmpty ? 0 : await run.FailEveryCallAsync(operation, plan, fromOpen: random.Next(2) == 0, onDataFile);
    }
}
