using BlockMount.TestSupport;
using BlockMount.TestSupport.Simulation;
using Xunit;
using Xunit.Abstractions;

namespace BlockMount.Tests.Simulation;

/// <summary>
/// Every interleaving of two programs, with and without a failing storage call, and of three: what was read is linearizable, the image is good, nothing hangs,
/// and no host range is used for two things at once (RELIABILITY H2, C2 D1-D3; see <see cref="SimulationRun"/> for the verdict). A failure names its
/// schedule; BLOCKMOUNT_SCHEDULE repeats it step by step.
/// </summary>
public sealed class ExhaustiveSimulationTests(ITestOutputHelper output)
{
    /// <summary>The images.</summary>
    public static TheoryData<string> Images => [.. SimulationMatrix.s_images];

    [Theory]
    [MemberData(nameof(Images))]
    public Task AllPairs_EveryInterleaving_IsGood(string image) =>
        VisitAsync(image, 2, int.MaxValue);

    [Theory]
    [MemberData(nameof(Images))]
    public Task AllPairs_EveryStorageCallFailingInEveryInterleaving_IsGood(string image) =>
        VisitAsync(image, 2, int.MaxValue, faults: true);

    // "backed" differs from "warm" in what edges and holes read only, which pairs show.
    [Theory]
    [InlineData("warm")]
    [InlineData("cold")]
    public Task AllTriples_EveryInterleaving_IsGood(string image) =>
        VisitAsync(image, 3, TestBudget.Scaled(200_000));

    // What BLOCKMOUNT_SCHEDULE names, with every step in the output.
    [Fact]
    public async Task Schedule_NamedByTheEnvironment_IsRepeated()
    {
        if (TestBudget.Schedule is not { } text)
        {
            return;
        }

        ScheduleName name = ScheduleName.Parse(text);
        SimulationImage image = await SimulationMatrix.ImageAsync(name.Image);
        List<string> log = [];
        try
        {
            SimulationRun.Run(image, SimulationMatrix.Named(image, name.Programs), new ReplayedChoices(name.Choices), name.Fault, log: log);
        }
        finally
        {
            output.WriteLine(string.Join('\n', log));
        }
    }

    private async Task VisitAsync(string name, int count, int schedulesMax, bool faults = false)
    {
        SimulationImage image = await SimulationMatrix.ImageAsync(name);
        ExhaustiveSimulation simulation = new(image, schedulesMax);
        foreach (GuestProgram[] programs in SimulationMatrix.Combinations(SimulationMatrix.Programs(image, count, faults), count))
        {
            if (faults)
            {
                simulation.VisitWithFaults(programs);
            }
            else
            {
                simulation.Visit(programs);
            }
        }

        output.WriteLine(simulation.Report());
        TestBudget.Count(simulation.Schedules, "exhaustive schedules");
        Assert.True(simulation.Incomplete == 0 || TestBudget.Scale < 1, "a combination has more schedules than the search allows for");
    }
}
