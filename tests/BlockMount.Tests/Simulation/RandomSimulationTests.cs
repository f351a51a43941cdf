using BlockMount.TestSupport;
using BlockMount.TestSupport.Model;
using Xunit;
using Xunit.Abstractions;

namespace BlockMount.Tests.Simulation;

/// <summary>Twenty thousand and more random schedules of four clients over the geometry matrix, some with a failing storage call (RELIABILITY H2).</summary>
[Trait("Suite", "Random")]
public sealed class RandomSimulationTests(ITestOutputHelper output)
{
    [Fact]
    public async Task RandomSchedules_OverTheGeometryMatrix_AreGood()
    {
        long schedules = 0;
        long faults = 0;
        foreach (int seed in TestBudget.Seeds(RandomSimulation.FirstSeed, RandomSimulation.Seeds))
        {
            try
            {
                faults += await RandomSimulation.RunSeedAsync(seed);
                schedules += RandomSimulation.SchedulesPerSeed;
            }
            catch (ModelMismatchException error)
            {
                throw new ModelMismatchException($"{error.Message}\nreplay: {TestBudget.Replay(seed, nameof(RandomSimulationTests))}", error);
            }
        }

        output.WriteLine(TestBudget.Count(schedules, "random schedules", 20_000));
        output.WriteLine(TestBudget.Count(faults, "of the random schedules with a failing call"));
    }
}
