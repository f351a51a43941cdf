using BlockMount.Base.Async;
using BlockMount.TestSupport;
using BlockMount.TestSupport.Simulation;
using Xunit;
using Xunit.Abstractions;

namespace BlockMount.Tests.Simulation;

/// <summary>Proves the explorer: it leaves out no outcome, finds what it is made to find, and repeats what it is told to repeat.</summary>
public sealed class ScheduleExplorerTests(ITestOutputHelper output)
{
    // Every order of steps against the reduced search: the sets of outcomes (what was read, and the image file byte for byte) must be equal.
    [Theory]
    [InlineData("warm", "write-in-place", "write-across")]
    [InlineData("warm", "write-part", "discard")]
    [InlineData("warm", "zero-keep", "read")]
    [InlineData("warm", "write-new", "flush")]
    [InlineData("cold", "write-new", "read")]
    [InlineData("cold", "write-in-place", "discard")]
    [InlineData("backed", "write-part", "read")]
    [InlineData("backed", "write-in-place", "shrink")]
    [InlineData("warm", "write-in-place", "read", "write-in-place")]
    [InlineData("warm", "write-reuse", "discard", "read")]
    [InlineData("warm", "write-in-place", "zero-unmap", "write-new")]
    public async Task ReducedSearch_ComparedWithEveryOrder_FindsTheSameOutcomes(string image, params string[] programs)
    {
        (HashSet<int> all, ScheduleExplorer full) = await OutcomesAsync(image, programs, reduce: false);
        (HashSet<int> reduced, ScheduleExplorer explorer) = await OutcomesAsync(image, programs, reduce: true);
        output.WriteLine($"{full.Schedules} orders, {explorer.Schedules} schedules ({explorer.Repeats} repeats), {reduced.Count} outcomes");
        Assert.True(all.SetEquals(reduced), $"{all.Count} outcomes, {reduced.Count} of them with the reduction");
        Assert.True(explorer.Schedules <= full.Schedules);
    }

    [Fact]
    public void LostUpdate_OfTwoReadModifyWrites_IsAmongTheOutcomes()
    {
        HashSet<byte> outcomes = [];
        ScheduleExplorer explorer = new();
        while (explorer.MoveNext())
        {
            MemoryFile memory = new("counter", readOnly: false, new byte[1]);
            Scheduler scheduler = new();
            ScheduledFile file = new(memory, scheduler, static (_, _) => true);
            scheduler.Start(() => IncrementAsync(file));
            scheduler.Start(() => IncrementAsync(file));
            Assert.All(scheduler.RunToEnd(explorer), Assert.Null);
            explorer.Finished();
            outcomes.Add(memory.Content[0]);
        }

        Assert.Equal(new HashSet<byte> { 1, 2 }, outcomes);
        output.WriteLine($"{explorer.Schedules} schedules");
    }

    [Fact]
    public void Deadlock_OfTwoLocksInOppositeOrder_IsReported()
    {
        ScheduleExplorer explorer = new();
        Assert.Throws<SimulationException>(() =>
        {
            while (explorer.MoveNext())
            {
                AsyncMutex left = new();
                AsyncMutex right = new();
                Scheduler scheduler = new();
                scheduler.Start(() => LockBothAsync(left, right));
                scheduler.Start(() => LockBothAsync(right, left));
                scheduler.RunToEnd(explorer);
                explorer.Finished();
            }
        });
    }

    [Fact]
    public void HostRange_WrittenWhileSomebodyElseReadsIt_IsReported()
    {
        Scheduler scheduler = new();
        ScheduledFile file = new(new MemoryFile("file", readOnly: false, new byte[4096]), scheduler, static (_, _) => false);
        scheduler.Start(async () => await file.ReadAsync(0, new byte[1024]));
        scheduler.Start(async () => await file.WriteAsync(512, new byte[512]));
        Exception?[] errors = scheduler.RunToEnd(new ReplayedChoices([]));
        Assert.IsType<SimulationException>(errors[1]);
    }

    [Fact]
    public void WorkOnAnotherThread_IsReported()
    {
        Scheduler scheduler = new();
        scheduler.Start(async () => await Task.Delay(1).ConfigureAwait(false));
        Assert.Throws<SimulationException>(() => scheduler.RunToEnd(new ReplayedChoices([])));
    }

    [Fact]
    public async Task Schedule_ReplayedFromItsName_TakesTheSameSteps()
    {
        SimulationImage image = await SimulationMatrix.ImageAsync("cold");
        GuestProgram[] programs = SimulationMatrix.Named(image, ["write-across", "trim", "read"]);
        Recorder recorder = new(new RandomChoices(new Random(3)));
        List<string> first = [];
        SimulationOutcome outcome = SimulationRun.Run(image, programs, recorder, log: first);
        ScheduleName name = ScheduleName.Parse(new ScheduleName("cold", ["write-across", "trim", "read"], (1, 2), recorder.Choices).ToString());
        Assert.Equal((1, 2), name.Fault);
        List<string> second = [];
        SimulationOutcome repeated = SimulationRun.Run(image, SimulationMatrix.Named(image, name.Programs), new ReplayedChoices(name.Choices), log: second);
        Assert.Equal(first, second);
        Assert.Equal(outcome, repeated);
    }

    [Fact]
    public void ManualTime_FiresTimersInTheOrderOfTheirTimes()
    {
        ManualTime time = new();
        List<string> fired = [];
        using ITimer slow = time.CreateTimer(_ => fired.Add($"slow {time.GetTimestamp()}"), null, TimeSpan.FromMilliseconds(5), Timeout.InfiniteTimeSpan);
        using ITimer fast = time.CreateTimer(_ => fired.Add($"fast {time.GetTimestamp()}"), null, TimeSpan.FromMilliseconds(2), TimeSpan.FromMilliseconds(2));
        time.AdvanceTo(6_500);
        Assert.Equal(["fast 2000", "fast 4000", "slow 5000", "fast 6000"], fired);
        Assert.Equal(6_500, time.GetTimestamp());
    }

    private static async Task IncrementAsync(ScheduledFile file)
    {
        byte[] counter = new byte[1];
        await file.ReadAsync(0, counter);
        counter[0]++;
        await file.WriteAsync(0, counter);
    }

    private static async Task LockBothAsync(AsyncMutex first, AsyncMutex second)
    {
        using AsyncMutex.Releaser outer = await first.LockAsync();
        await Task.Yield();
        using AsyncMutex.Releaser inner = await second.LockAsync();
    }

    private static async Task<(HashSet<int> Outcomes, ScheduleExplorer Explorer)> OutcomesAsync(string name, string[] programs, bool reduce)
    {
        SimulationImage image = await SimulationMatrix.ImageAsync(name);
        HashSet<int> outcomes = [];
        ScheduleExplorer explorer = new(reduce);
        while (explorer.MoveNext())
        {
            outcomes.Add(SimulationRun.Run(image, SimulationMatrix.Named(image, programs), explorer).Fingerprint);
            explorer.Finished();
            Assert.True(explorer.Schedules < 2_000_000);
        }

        return (outcomes, explorer);
    }

    private sealed class Recorder(ScheduleChooser inner) : ScheduleChooser
    {
        internal List<int> Choices { get; } = [];

        public override int Choose(IReadOnlyList<ScheduleStep> possible)
        {
            Choices.Add(inner.Choose(possible));
            return Choices[^1];
        }
    }
}
