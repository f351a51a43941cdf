using BlockMount.Formats;
using BlockMount.TestSupport.Mutants;
using Xunit;
using Xunit.Abstractions;

namespace BlockMount.Mutants;

/// <summary>
/// Each classic bug, switched on in the driver, is caught by a harness within its normal seeds, and the same case is good without it (RELIABILITY H15).
/// One class, because the switch is one for the process: nothing here runs at the same time as anything else.
/// </summary>
public sealed class HistoricBugTests(ITestOutputHelper output) : IDisposable
{
    public void Dispose() => HistoricBug.Active = Bug.None;

    /// <summary>The bugs, and the harness that is asked first.</summary>
    [Theory]
    [InlineData(nameof(Bug.D1LockDroppedAroundData), "simulation")]
    [InlineData(nameof(Bug.D2FreedClusterReusedInFlight), "simulation")]
    [InlineData(nameof(Bug.D3HolePunchedAfterReuse), "simulation")]
    [InlineData(nameof(Bug.D4LiveTableHandedOut), "model")]
    [InlineData(nameof(Bug.D5CacheWithoutLock), "simulation")]
    [InlineData(nameof(Bug.D6FreedNeverReused), "model")]
    [InlineData(nameof(Bug.D7DataAtOffsetZero), "model")]
    [InlineData(nameof(Bug.D8BlockCountedTooLate), "fail-nth")]
    [InlineData(nameof(Bug.I2TablesBeforeData), "power cut")]
    [InlineData(nameof(Bug.I3TablesBeforeRefcounts), "power cut")]
    [InlineData(nameof(Bug.I4ReleasedBeforeTables), "power cut")]
    [InlineData(nameof(Bug.I5HiddenReusedInFlight), "simulation")]
    public async Task HistoricBug_SwitchedOn_IsCaught(string name, string harness)
    {
        Bug bug = Enum.Parse<Bug>(name);
        foreach (string asked in Harnesses.s_names.OrderByDescending(other => other == harness))
        {
            if (await IsCaughtAsync(asked, bug, createMutant: null))
            {
                return;
            }
        }

        Assert.Fail("no harness finds the bug");
    }

    // I1 needs no switch: a driver that commits when it prepares does it from outside.
    [Fact]
    public async Task I1_TablesChangedBeforeTheDataIsWritten_IsCaught() =>
        Assert.True(await IsCaughtAsync("simulation", Bug.None, static () => new CommittedBeforeData()));

    [Fact]
    public void EveryBug_HasATest()
    {
        IEnumerable<string> tested = typeof(HistoricBugTests).GetMethod(nameof(HistoricBug_SwitchedOn_IsCaught))!
            .GetCustomAttributes(typeof(InlineDataAttribute), inherit: false)
            .Select(data => (string)((InlineDataAttribute)data).GetData(null!).Single()[0]);
        Assert.Equal(Enum.GetNames<Bug>().Where(name => name != nameof(Bug.None)), tested);
    }

    private async Task<bool> IsCaughtAsync(string harness, Bug bug, Func<Mutant>? createMutant)
    {
        int number = 0;
        await foreach (HarnessCase harnessCase in Harnesses.Cases(harness, createMutant))
        {
            number++;
            string? found = await FindAsync(harnessCase, bug);
            if (found is null)
            {
                continue;
            }

            output.WriteLine($"{harness}, case {number} ({harnessCase.Name}): {found}");
            await MustBeGoodAsync(harness, number);
            return true;
        }

        output.WriteLine($"{harness}: {number} cases, not found");
        return false;
    }

    private static async Task<string?> FindAsync(HarnessCase harnessCase, Bug bug)
    {
        HistoricBug.Active = bug;
        try
        {
            await harnessCase.RunAsync();
            return null;
        }
        catch (Exception error)
        {
            // A broken driver may fail in any way: every way is noticed.
            return error.Message;
        }
        finally
        {
            HistoricBug.Active = Bug.None;
        }
    }

    // The same case, and those just before it, with nothing switched on.
    private static async Task MustBeGoodAsync(string harness, int number)
    {
        int seen = 0;
        await foreach (HarnessCase harnessCase in Harnesses.Cases(harness))
        {
            seen++;
            if (seen > number - 3)
            {
                await harnessCase.RunAsync();
            }

            if (seen == number)
            {
                return;
            }
        }
    }
}
