using BlockMount.TestSupport;
using BlockMount.TestSupport.Crash;
using BlockMount.TestSupport.Images;
using BlockMount.TestSupport.Model;
using Xunit;
using Xunit.Abstractions;

namespace BlockMount.Tests.PowerCut;

/// <summary>
/// Power cuts at every storage call, with any subset of what was not flushed, torn at 512 bytes: the image opens, is not corrupt, and every sector
/// holds its last flushed or a later value (RELIABILITY H3).
/// </summary>
[Trait("Suite", "Random")]
public sealed class PowerCutTests(ITestOutputHelper output)
{
    [Fact]
    public async Task PowerCut_AnywhereInAWorkload_LosesNothingFlushed()
    {
        int states = 0;
        foreach (int seed in TestBudget.Seeds(PowerCutRun.FirstSequentialSeed, PowerCutRun.SequentialRuns))
        {
            PowerCutRun run = await PowerCutRun.SequentialAsync(seed);
            (int judged, CrashVerdict verdict) = await run.JudgeAsync();
            Assert.True(verdict.IsGood, run.Explain(verdict, nameof(PowerCut_AnywhereInAWorkload_LosesNothingFlushed)));
            states += judged;
        }

        output.WriteLine(TestBudget.Count(states, "power cut states", 90_000));
    }

    [Fact]
    public async Task PowerCut_WithOperationsInFlight_LosesNothingFlushed()
    {
        int states = 0;
        foreach (int seed in TestBudget.Seeds(PowerCutRun.FirstConcurrentSeed, PowerCutRun.ConcurrentRuns))
        {
            PowerCutRun run = PowerCutRun.Concurrent(seed);
            (int judged, CrashVerdict verdict) = await run.JudgeAsync();
            Assert.True(verdict.IsGood, run.Explain(verdict, nameof(PowerCut_WithOperationsInFlight_LosesNothingFlushed)));
            states += judged;
        }

        output.WriteLine(TestBudget.Count(states, "power cut states with operations in flight", 25_000));
    }

    [Fact]
    public async Task PowerCut_DuringTheWorkAfterAPowerCut_LosesNothingFlushed()
    {
        int states = 0;
        foreach (int seed in TestBudget.Seeds(40_000, 20))
        {
            PowerCutRun first = await PowerCutRun.SequentialAsync(seed);
            List<CrashImage> left = [];
            Random random = new(seed);
            await first.JudgeAsync(visit: image =>
            {
                if (random.Next(40) == 0)
                {
                    left.Add(image.Copy());
                }

                return ValueTask.CompletedTask;
            });
            foreach (CrashImage image in left)
            {
                PowerCutRun second = await PowerCutRun.AfterCrashAsync(seed, first, image);
                (int judged, CrashVerdict verdict) = await second.JudgeAsync();
                Assert.True(verdict.IsGood, second.Explain(verdict, nameof(PowerCut_DuringTheWorkAfterAPowerCut_LosesNothingFlushed)));
                states += judged;
            }
        }

        output.WriteLine(TestBudget.Count(states, "power cut states after a power cut", 25_000));
    }

    [RequiresFact(Needs.None, "qemu-img")]
    public async Task PowerCut_Sample_QemuFindsNoCorruption()
    {
        using ScratchFolder folder = new();
        int wanted = TestBudget.Scaled(200);
        int seen = 0;
        foreach (int seed in TestBudget.Seeds(50_000, 20))
        {
            // With stale refcounts under the dirty bit the tool counts corruptions, as it should.
            PowerCutRun run = await PowerCutRun.SequentialAsync(seed, static geometry => geometry with { LazyRefcounts = false });
            Random random = new(seed);
            await run.JudgeAsync(visit: async image =>
            {
                if (seen < wanted && run.DataLog is null && random.Next(40) == 0)
                {
                    seen++;
                    await run.Chain.SaveAsync(folder, "crashed", image.Bytes.AsMemory(0, (int)image.Length));
                    QemuImg.Verdict verdict = await QemuImg.CheckAsync(folder["crashed"]);
                    Assert.True(verdict.IsUsable, $"{verdict.Text}\n{run.Geometry}\n{TestBudget.Replay(seed, nameof(PowerCut_Sample_QemuFindsNoCorruption))}");
                }
            });
        }

        output.WriteLine($"{seen} states");
        Assert.True(seen >= wanted || TestBudget.Seed is not null, $"only {seen} states");
    }

    // Clusters that the disk shares with snapshots, or that several compressed clusters share, have refcounts above one.
    [RequiresTheory(Needs.None, "qemu-img", "qemu-io")]
    [InlineData(null, 2)]
    [InlineData("zlib", 1)]
    public async Task PowerCut_OnAnImageWithSnapshots_LosesNothingFlushedAndNoSnapshot(string? compression, int snapshots)
    {
        using ScratchFolder folder = new();
        int states = 0;
        int sampled = 0;
        foreach (int seed in TestBudget.Seeds(70_000, 6))
        {
            Random random = new(seed);
            ImageGeometry geometry = new() { ClusterBits = random.Next(9, 13), Size = 24 << 10, TinyCache = random.Next(2) == 0 };
            ToolImage image = await ToolImage.CreateAsync(folder, geometry, random, compression, snapshots);
            PowerCutRun run = await PowerCutRun.OnImageAsync(seed, image.Chain);
            string testName = nameof(PowerCut_OnAnImageWithSnapshots_LosesNothingFlushedAndNoSnapshot);
            (int judged, CrashVerdict verdict) = await run.JudgeAsync(visit: async state =>
            {
                if (random.Next(250) == 0)
                {
                    sampled++;
                    string? damage = await image.FindDamageAsync(folder, state.Bytes.AsMemory(0, (int)state.Length));
                    Assert.True(damage is null, $"{damage}\n{geometry}\n{TestBudget.Replay(seed, testName)}");
                }
            });
            Assert.True(verdict.IsGood, run.Explain(verdict, testName));
            states += judged;
        }

        output.WriteLine($"{states} states, {sampled} of them also judged by qemu-img");
    }

    // The zeros that hide the backing file are on disk before the new size is: otherwise a power cut would let the guest see what the backing
    // file holds behind the old end.
    [Fact]
    public async Task PowerCut_WhileGrowingOverALongerBackingFile_ShowsZerosInTheNewSpace()
    {
        ImageGeometry geometry = new() { Size = 8192, Backing = BackingKind.Raw, Depth = 2, BackingSize = 32768 };
        PowerCutRun run = await PowerCutRun.OfAsync(seed: 1, geometry, [new GuestOperation(GuestOperationKind.Resize, 32768, 0, 0)]);
        (int _, CrashVerdict verdict) = await run.JudgeAsync();
        Assert.True(verdict.IsGood, run.Explain(verdict, nameof(PowerCut_WhileGrowingOverALongerBackingFile_ShowsZerosInTheNewSpace)));
    }

    // The header, both tables and the first blocks of a new area change places; the file has two megabytes.
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task PowerCut_WhileTheRefcountTableGrows_LosesNothingFlushed(bool lazy)
    {
        TestChain chain = await GrownImage.BeforeItsTableGrowsAsync(lazy);
        PowerCutRun run = await PowerCutRun.OnImageAsync(seed: 1, chain, GrownImage.s_operations);
        (int states, CrashVerdict verdict) = await run.JudgeAsync();
        Assert.True(verdict.IsGood, run.Explain(verdict, nameof(PowerCut_WhileTheRefcountTableGrows_LosesNothingFlushed)));
        Assert.True(GrownImage.TableClusters(run.LastFile) > GrownImage.TableClusters(run.InitialFile), "the refcount table did not grow");
        output.WriteLine(TestBudget.Count(states, "power cut states while tables grow"));
    }
}
