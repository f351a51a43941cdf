using System.Diagnostics;
using BlockMount.TestSupport.Simulation;
using Xunit;
using Xunit.Abstractions;

namespace BlockMount.Tests.Simulation;

public sealed class ExhaustiveSimulationTests(ITestOutputHelper output)
{
    [Theory]
    [InlineData("warm", 2)]
    [InlineData("cold", 2)]
    [InlineData("backed", 2)]
    [InlineData("warm", 3)]
    [InlineData("cold", 3)]
    public async Task ScheduleProbe(string name, int count)
    {
        SimulationImage image = await SimulationMatrix.ImageAsync(name);
        IReadOnlyList<GuestProgram> programs = SimulationMatrix.Programs(image);
        long total = 0, repeats = 0; int combos = 0, capped = 0;
        long start = Stopwatch.GetTimestamp();
        foreach (GuestProgram[] c in SimulationMatrix.Combinations(programs, count))
        {
            ScheduleExplorer explorer = new();
            long t0 = Stopwatch.GetTimestamp();
            bool more;
            while ((more = explorer.MoveNext()) && explorer.Schedules + explorer.Repeats < 300000)
            {
                SimulationRun.Run(image, c, explorer);
                explorer.Finished();
            }
            combos++; total += explorer.Schedules; repeats += explorer.Repeats; capped += more ? 1 : 0;
            if (explorer.Schedules + explorer.Repeats > (count == 2 ? 200 : 6000)) {
            output.WriteLine($"{string.Join('+', c.Select(p => p.Name))}: {explorer.Schedules} {explorer.Repeats} {(more ? "CAPPED" : "")} {Stopwatch.GetElapsedTime(t0).TotalMilliseconds:F0} ms");}
        }
        output.WriteLine($"{combos} combos, {total} schedules, {repeats} repeats, {capped} capped, {Stopwatch.GetElapsedTime(start).TotalSeconds:F1} s");
    }
}
