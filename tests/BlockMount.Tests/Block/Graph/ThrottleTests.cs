using BlockMount.Block.Devices;
using BlockMount.Block.Filters;
using BlockMount.Block.Graph;
using BlockMount.Block.Nodes;
using BlockMount.Block.Options;
using BlockMount.TestSupport.Simulation;
using Xunit;

namespace BlockMount.Tests.Block.Graph;

/// <summary>FEATURES D10, N4: limits hold on average, and nobody who changes the graph waits for them.</summary>
public sealed class ThrottleTests
{
    [Fact]
    public async Task Read_OverTheLimit_WaitsAsLongAsTheRateSays()
    {
        ManualTime time = new();
        await using GraphFixture fixture = new(time: time);
        BlockDevice device = await ServeAsync(fixture, new ThrottleLimits { BpsTotal = new ThrottleLimit(1000) });
        // The slack is a tenth of a second's worth; the first request goes through whatever its size.
        await device.ReadAsync(0, new byte[1100]);
        Task second = device.ReadAsync(0, new byte[500]).AsTask();
        time.AdvanceTo(time.GetTimestamp() + 990_000);
        Assert.False(second.IsCompleted);
        time.AdvanceTo(time.GetTimestamp() + 20_000);
        await second.WaitAsync(TimeSpan.FromSeconds(10));
    }

    [Fact]
    public async Task Requests_Burst_GoThroughUntilItIsUsedUp()
    {
        ManualTime time = new();
        await using GraphFixture fixture = new(time: time);
        BlockDevice device = await ServeAsync(fixture, new ThrottleLimits { IopsWrite = new ThrottleLimit(10, 100, 2) });
        ThrottleGroup group = fixture.Graph.ThrottleGroups.Single();
        List<Task> writes = [];
        for (int step = 0; step <= 400; step++)
        {
            while (group.WaitingCount == 0)
            {
                await Task.WhenAll(writes).WaitAsync(TimeSpan.FromSeconds(10));
                writes.Add(device.WriteAsync(0, new byte[1]).AsTask());
            }

            time.AdvanceTo(time.GetTimestamp() + 10_000);
        }

        // Two seconds of the burst rate are in the bucket, and ten a second come in for four seconds; one waits.
        Assert.InRange(writes.Count, 238, 244);
        await SetAsync(fixture, new ThrottleLimits());
        await Task.WhenAll(writes).WaitAsync(TimeSpan.FromSeconds(10));
    }

    [Fact]
    public async Task Drain_RequestsAreThrottled_EndsAtOnceAndTheyAreDone()
    {
        // A clock that stands still: whoever waits for a rate waits for ever.
        await using GraphFixture fixture = new(time: new ManualTime());
        BlockDevice device = await ServeAsync(fixture, new ThrottleLimits { BpsTotal = new ThrottleLimit(1) });
        await device.ReadAsync(0, new byte[512]);
        Task[] waiting = [.. Enumerable.Range(0, 5).Select(_ => device.WriteAsync(0, new byte[512]).AsTask())];
        Assert.Equal(5, fixture.Graph.ThrottleGroups.Single().WaitingCount);
        await fixture.RunAsync(async scope => (await DrainedSection.BeginAsync(scope, [device.Root])).Dispose()).WaitAsync(TimeSpan.FromSeconds(10));
        await Task.WhenAll(waiting).WaitAsync(TimeSpan.FromSeconds(10));
        Task later = device.WriteAsync(0, new byte[512]).AsTask();
        Assert.False(later.IsCompleted);
        await SetAsync(fixture, new ThrottleLimits());
        await later.WaitAsync(TimeSpan.FromSeconds(10));
    }

    [Theory]
    [InlineData(1, 1)]
    [InlineData(3, 2)]
    public async Task Drain_RequestsWereLetThrough_AreThenPaidFor(int drains, long burst)
    {
        ManualTime time = new();
        await using GraphFixture fixture = new(time: time);
        BlockDevice device = await ServeAsync(fixture, new ThrottleLimits { BpsTotal = new ThrottleLimit(1000, burst > 1 ? 2000 : 0, burst) });
        ThrottleGroup group = fixture.Graph.ThrottleGroups.Single();
        // Fills the bucket: a tenth of a second's worth, or a burst of two seconds at 2000.
        long room = burst > 1 ? 4000 : 100;
        await device.WriteAsync(0, new byte[room + 1]);
        for (int i = 0; i < drains; i++)
        {
            Task[] waiting = [.. Enumerable.Range(0, 4).Select(_ => device.WriteAsync(0, new byte[1000]).AsTask())];
            await fixture.RunAsync(async scope => (await DrainedSection.BeginAsync(scope, [device.Root])).Dispose()).WaitAsync(TimeSpan.FromSeconds(10));
            await Task.WhenAll(waiting).WaitAsync(TimeSpan.FromSeconds(10));
        }

        // 4 seconds of credit were taken by each drain.
        Task later = device.ReadAsync(0, new byte[1]).AsTask();
        time.AdvanceTo(time.GetTimestamp() + (4_000_000 * drains) - 10_000);
        Assert.Equal(1, group.WaitingCount);
        Assert.False(later.IsCompleted);
        time.AdvanceTo(time.GetTimestamp() + 20_000);
        await later.WaitAsync(TimeSpan.FromSeconds(10));
    }

    // Whatever happens to the graph: what goes through in the long run is what the rate admits, and what the last drain has let through.
    [Fact]
    public async Task Drains_AllTheTime_LimitHoldsOverAMinuteAfterThem()
    {
        ManualTime time = new();
        await using GraphFixture fixture = new(time: time);
        BlockDevice device = await ServeAsync(fixture, new ThrottleLimits { IopsTotal = new ThrottleLimit(10) });
        ThrottleGroup group = fixture.Graph.ThrottleGroups.Single();
        List<Task> writes = [];
        for (int tenth = 0; tenth < 1200; tenth++)
        {
            while (group.WaitingCount == 0)
            {
                await Task.WhenAll(writes).WaitAsync(TimeSpan.FromSeconds(10));
                writes.Add(device.WriteAsync(0, new byte[512]).AsTask());
            }

            // 5 in each of the first 60 seconds.
            if (tenth < 600 && tenth % 2 == 0)
            {
                await fixture.RunAsync(async scope => (await DrainedSection.BeginAsync(scope, [device.Root])).Dispose()).WaitAsync(TimeSpan.FromSeconds(10));
            }

            time.AdvanceTo(time.GetTimestamp() + 100_000);
        }

        // Two minutes at ten a second, the slack of one, and the one that waits.
        Assert.InRange(writes.Count, 1195, 1204);
        await SetAsync(fixture, new ThrottleLimits());
        await Task.WhenAll(writes).WaitAsync(TimeSpan.FromSeconds(10));
    }

    // The image's own metadata goes through the throttle, which lets nothing more through on a clock that stands still.
    [Fact]
    public async Task GraphChanges_OfAnImageOnAThrottle_NeverWaitForTheLimit()
    {
        await using GraphFixture fixture = new(time: new ManualTime());
        await fixture.CreateImageAsync("base", 1 << 20);
        await fixture.SetThrottleGroupAsync("g", new ThrottleLimits { BpsTotal = new ThrottleLimit(1) });
        await DoAsync(async scope => _ = await NodeOperations.AddAsync(
            scope, new ThrottleNodeOptions { NodeName = "slow", Group = "g", File = ChildOption.Of(new FileNodeOptions { FileName = "base" }) }));
        Qcow2NodeOptions image = new() { NodeName = "image", NoBacking = true, File = ChildOption.Of("slow") };
        for (int i = 0; i < 3; i++)
        {
            await DoAsync(async scope => _ = await NodeOperations.AddAsync(scope, image));
            Node node = fixture.Graph.Find("image");
            await WriteAsync(fixture, node, i);
            // Without a user, then with one.
            await DoAsync(scope => NodeOperations.ReopenAsync(scope, [image with { DetectZeroes = DetectZeroes.On }]));
            await WriteAsync(fixture, node, i + 3);
            BlockDevice device = await fixture.Loop.RunAsync(
                scope => fixture.Graph.AddDeviceAsync(scope, node, new DeviceOptions { Name = "drive0", Writable = true })).WaitAsync(TimeSpan.FromSeconds(10));
            await DoAsync(_ => NodeOperations.FreezeAsync([device]));
            NodeOperations.Thaw([device]);
            await DoAsync(scope => fixture.Graph.RemoveDeviceAsync(scope, device));
            await WriteAsync(fixture, node, i + 6);
            if (i == 2)
            {
                await DoAsync(scope => SnapshotOperations.SnapshotSyncAsync(
                    scope, new SnapshotSyncOptions { NodeName = "image", SnapshotFile = "over", SnapshotNodeName = "over" }));
                await DoAsync(scope => NodeOperations.DeleteAsync(scope, "over"));
            }

            await DoAsync(scope => NodeOperations.DeleteAsync(scope, "image"));
        }

        await DoAsync(scope => NodeOperations.DeleteAsync(scope, "slow"));
        Assert.Empty(fixture.Leftovers);

        Task DoAsync(Func<ControlScope, ValueTask> action) => fixture.RunAsync(action).WaitAsync(TimeSpan.FromSeconds(10));
    }

    // Leaves metadata that is not flushed; the guest's own requests are let through by a drain.
    private static async Task WriteAsync(GraphFixture fixture, Node node, int cluster)
    {
        Task write = node.WriteAsync(cluster * 65536, new byte[] { 7 }).AsTask();
        for (int i = 0; i < 100 && !write.IsCompleted; i++)
        {
            await fixture.RunAsync(async scope => (await DrainedSection.BeginAsync(scope, [node])).Dispose()).WaitAsync(TimeSpan.FromSeconds(10));
            await Task.Delay(1);
        }

        await write.WaitAsync(TimeSpan.FromSeconds(10));
    }

    [Fact]
    public async Task SnapshotSync_HundredWithThrottledWritesInFlight_NoneWaits()
    {
        await using GraphFixture fixture = new(time: new ManualTime());
        await fixture.CreateImageAsync("base", 1 << 20);
        BlockDevice device = await ServeAsync(fixture, new ThrottleLimits { IopsTotal = new ThrottleLimit(1) }, new Qcow2NodeOptions
        {
            NodeName = "image",
            NoBacking = true,
            File = ChildOption.Of(new FileNodeOptions { FileName = "base" }),
        });
        for (int i = 0; i < 100; i++)
        {
            byte[] written = new byte[4096];
            Array.Fill(written, (byte)(i + 1));
            Task write = device.WriteAsync(i * 4096, written).AsTask();
            string name = $"o{i}";
            // Under the filter: the throttle stays the device's root.
            await fixture.RunAsync(scope => SnapshotOperations.SnapshotSyncAsync(
                scope,
                new SnapshotSyncOptions { NodeName = i == 0 ? "image" : $"o{i - 1}", SnapshotFile = name, SnapshotNodeName = name })).WaitAsync(TimeSpan.FromSeconds(10));
            await write.WaitAsync(TimeSpan.FromSeconds(10));
        }

        Assert.IsType<ThrottleNode>(device.Root);
        await SetAsync(fixture, new ThrottleLimits());
        byte[] read = new byte[100 * 4096];
        await device.ReadAsync(0, read);
        Assert.All(Enumerable.Range(0, 100), i => Assert.Equal(i + 1, read[(i * 4096) + 17]));
        Assert.Empty(fixture.Leftovers);
    }

    [Fact]
    public void Check_ContradictingLimits_AreRefused()
    {
        GraphException error = Assert.Throws<GraphException>(() => new ThrottleLimits { BpsTotal = new(1), BpsRead = new(1) }.Check());
        Assert.Equal("bps/iops/max total values and read/write values cannot be used at the same time", error.Message);
        Assert.Throws<GraphException>(() => new ThrottleLimits { BpsTotal = new(10, 5) }.Check());
        Assert.Throws<GraphException>(() => new ThrottleLimits { BpsTotal = new(0, 5) }.Check());
        Assert.Throws<GraphException>(() => new ThrottleLimits { IopsSize = 5 }.Check());
    }

    private static async Task<BlockDevice> ServeAsync(GraphFixture fixture, ThrottleLimits limits, NodeOptions? below = null)
    {
        await SetAsync(fixture, limits);
        var node = await fixture.Loop.RunAsync(scope => NodeOperations.AddAsync(
            scope, new ThrottleNodeOptions { NodeName = "top", Group = "g", File = ChildOption.Of(below ?? new NullNodeOptions { ReadZeroes = true }) }));
        return await fixture.Loop.RunAsync(scope => fixture.Graph.AddDeviceAsync(scope, node, new DeviceOptions { Name = "drive0", Writable = true }));
    }

    private static Task SetAsync(GraphFixture fixture, ThrottleLimits limits) => fixture.SetThrottleGroupAsync("g", limits);
}
