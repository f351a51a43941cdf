using BlockMount.Base;
using BlockMount.Block.Devices;
using BlockMount.TestSupport;
using BlockMount.TestSupport.Faults;
using BlockMount.TestSupport.Model;
using Xunit;
using Xunit.Abstractions;

namespace BlockMount.Tests.Snapshots;

/// <summary>
/// Each storage call of a change of the snapshots failing in turn. Before the header is written the image is as it was, without leaks, and goes on working;
/// if the header's write fails, the image takes no more writes and is old or new when it is opened again.
/// </summary>
public sealed class SnapshotFailNthTests(ITestOutputHelper output)
{
    private static readonly FaultPlan[] s_plans =
    [
        new() { FailFrom = 1 },
        new() { FailFrom = 1, Errno = Errno.ENOSPC, Calls = StorageCalls.Changes },
        new() { FailFrom = 1, ShortTransfer = true },
        new() { FailFrom = 1, Calls = StorageCalls.Flush },
        new() { FailFrom = 1, Forever = true },
        new() { FailFrom = 1, Forever = true, ShortTransfer = true, Errno = Errno.ENOSPC, Calls = StorageCalls.Changes },
    ];

    [Theory]
    [MemberData(nameof(SnapshotPowerCutTests.Changes), MemberType = typeof(SnapshotPowerCutTests))]
    public async Task EveryStorageCall_Failing_LeavesTheOldOrTheNewState(SnapshotChangeKind kind, int geometry)
    {
        SnapshotScene scene = await SnapshotScene.MakeAsync(SnapshotScene.Geometries[geometry]);
        Outcomes outcomes = new();
        foreach (FaultPlan plan in s_plans)
        {
            int number = 1;
            while (await FailOneAsync(scene, kind, plan with { FailFrom = number }, outcomes))
            {
                number++;
            }
        }

        output.WriteLine($"{outcomes.GoesOn} went on working, {outcomes.Closed} took no more writes, {outcomes.Succeeded} succeeded nevertheless");
        Assert.True(outcomes.GoesOn > 20);
        Assert.True(outcomes.Closed > 0);
    }

    private static async Task<bool> FailOneAsync(SnapshotScene scene, SnapshotChangeKind kind, FaultPlan plan, Outcomes outcomes)
    {
        MemoryFile memory = new("top", readOnly: false, scene.File);
        FaultyFile faulty = new(memory);
        BlockDevice device = await scene.OpenAsync(faulty);
        faulty.SetPlan(plan);
        bool succeeded = await SucceedsAsync(() => SnapshotScene.ChangeAsync(device, kind));
        bool failed = faulty.Faults > 0;
        // One failing flush makes all later ones fail: that is the file's contract.
        bool flushFailed = failed && plan.Calls == StorageCalls.Flush;
        faulty.SetPlan(null);
        Dictionary<string, byte[]> before = scene.Before;
        Dictionary<string, byte[]> after = scene.After(kind);
        if (!succeeded)
        {
            byte[] open = new byte[device.Size];
            await device.ReadAsync(0, open);
            Assert.True(open.AsSpan().SequenceEqual(before[""]), $"{plan}: the open disk has changed");
        }

        byte[] mark = new GuestOperation(GuestOperationKind.Write, 0, 700, 77).Data();
        bool writes = await SucceedsAsync(() => device.WriteAsync(1024, mark));
        bool closes = await SucceedsAsync(device.DisposeAsync);
        Assert.True(closes || !succeeded || flushFailed, $"{plan}: a change that succeeded, and then a close that failed");
        Dictionary<string, byte[]> left = await scene.ReadAllAsync(memory, mustBeClean: closes && writes);
        if (writes && closes)
        {
            outcomes.GoesOn += succeeded ? 0 : 1;
            outcomes.Succeeded += succeeded ? 1 : 0;
            Dictionary<string, byte[]> expected = new(succeeded ? after : before);
            expected[""] = (byte[])expected[""].Clone();
            mark.CopyTo(expected[""], 1024);
            Assert.True(SnapshotScene.AreEqual(left, expected), $"{plan}: not what it must be after a {(succeeded ? "success" : "failure")}");
        }
        else
        {
            outcomes.Closed += writes ? 0 : 1;
            Assert.False(succeeded, $"{plan}");
            // What was written afterwards may have got through where the header was not the reason.
            left[""].AsSpan(1024, writes ? mark.Length : 0).Clear();
            Assert.True(IsOneOf(left, writes ? mark.Length : 0, before, after), $"{plan}: neither the old nor the new state");
        }

        return failed;
    }

    private static bool IsOneOf(Dictionary<string, byte[]> left, int ignored, params Dictionary<string, byte[]>[] states) => states.Any(state =>
    {
        Dictionary<string, byte[]> expected = new(state) { [""] = (byte[])state[""].Clone() };
        expected[""].AsSpan(1024, ignored).Clear();
        return SnapshotScene.AreEqual(left, expected);
    });

    private static async Task<bool> SucceedsAsync(Func<ValueTask> action)
    {
        try
        {
            await action();
            return true;
        }
        catch (BlockMountException)
        {
            return false;
        }
    }

    private sealed class Outcomes
    {
        internal int GoesOn { get; set; }

        internal int Closed { get; set; }

        internal int Succeeded { get; set; }
    }
}
