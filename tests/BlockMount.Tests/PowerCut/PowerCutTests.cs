using BlockMount.TestSupport;
using BlockMount.TestSupport.Crash;
using Xunit;
using Xunit.Abstractions;

namespace BlockMount.Tests.PowerCut;

/// <summary>
/// Power cuts at every storage call, with any subset of what was not flushed, torn at 512 bytes: the image opens, is not corrupt, and every sector
/// holds its last flushed or a later value (RELIABILITY H3).
/// </summary>
public sealed class PowerCutTests(ITestOutputHelper output)
{
    private const int SequentialRuns = 120;
    private const int ConcurrentRuns = 60;

    [Fact]
    public async Task PowerCut_AnywhereInAWorkload_LosesNothingFlushed()
    {
        int states = 0;
        foreach (int seed in TestBudget.Seeds(10_000, SequentialRuns))
        {
            PowerCutRun run = await PowerCutRun.SequentialAsync(seed);
            (int judged, CrashVerdict verdict) = await run.JudgeAsync();
            Assert.True(verdict.IsGood, run.Explain(verdict, nameof(PowerCut_AnywhereInAWorkload_LosesNothingFlushed)));
            states += judged;
        }

        output.WriteLine($"{states} states");
    }

    [Fact]
    public async Task PowerCut_WithOperationsInFlight_LosesNothingFlushed()
    {
        int states = 0;
        foreach (int seed in TestBudget.Seeds(20_000, ConcurrentRuns))
        {
            PowerCutRun run = PowerCutRun.Concurrent(seed);
            (int judged, CrashVerdict verdict) = await run.JudgeAsync();
            Assert.True(verdict.IsGood, run.Explain(verdict, nameof(PowerCut_WithOperationsInFlight_LosesNothingFlushed)));
            states += judged;
        }

        output.WriteLine($"{states} states");
    }
}
