using BlockMount.Block.Devices;
using BlockMount.TestSupport;
using BlockMount.TestSupport.Crash;
using Xunit;
using Xunit.Abstractions;

namespace BlockMount.Tests.Snapshots;

/// <summary>
/// Power cuts at every storage call of a change of the snapshots, with any subset of what was not flushed: everything is as before or as after, disk, sizes,
/// list and the content of every snapshot, never something between, and the image is not corrupt. When the call has returned everything is as after.
/// </summary>
public sealed class SnapshotPowerCutTests(ITestOutputHelper output)
{
    private const int RandomStatesPerCut = 6;

    /// <summary>Kind of change, index of the geometry.</summary>
    public static TheoryData<SnapshotChangeKind, int> Changes
    {
        get
        {
            TheoryData<SnapshotChangeKind, int> data = new();
            foreach (SnapshotChangeKind kind in Enum.GetValues<SnapshotChangeKind>())
            {
                for (int i = 0; i < SnapshotScene.Geometries.Length; i++)
                {
                    data.Add(kind, i);
                }
            }

            return data;
        }
    }

    [Theory]
    [MemberData(nameof(Changes))]
    public async Task PowerCut_DuringTheChange_LeavesTheOldOrTheNewState(SnapshotChangeKind kind, int geometry)
    {
        SnapshotScene scene = await SnapshotScene.MakeAsync(SnapshotScene.Geometries[geometry]);
        (StorageLog log, long returned) = await RecordAsync(scene, kind);
        Dictionary<string, byte[]> after = scene.After(kind);
        CrashImages images = new(log, scene.File);
        int old = 0;
        int @new = 0;
        foreach (long cut in CrashImages.Cuts(log))
        {
            images.AdvanceTo(cut);
            Random random = new((int)cut);
            int count = (images.PendingCount == 0 ? 1 : 2 + (2 * images.PendingCount)) + RandomStatesPerCut;
            for (int i = 0; i < count; i++)
            {
                CrashImage image = images.Draw(i, random);
                Dictionary<string, byte[]> found = await scene.ReadAllAsync(image.ToFile());
                bool isOld = SnapshotScene.AreEqual(found, scene.Before);
                bool isNew = SnapshotScene.AreEqual(found, after);
                Assert.True(
                    isNew || (isOld && cut <= returned),
                    $"cut {cut}, state {i}: {(isOld ? "the old state after the call returned" : "neither the old nor the new state")}\nnot durable: {images.DescribePending()}");
                old += isOld ? 1 : 0;
                @new += isNew ? 1 : 0;
            }
        }

        output.WriteLine($"{old} old, {@new} new states");
        Assert.True(old > 20);
        Assert.True(@new > 5);
    }

    // Which proves that the flush before the header's write is needed, and that this test would miss it.
    [Theory]
    [InlineData(SnapshotChangeKind.Create)]
    [InlineData(SnapshotChangeKind.Apply)]
    [InlineData(SnapshotChangeKind.Delete)]
    public async Task LostFlushBeforeTheHeader_IsSeen(SnapshotChangeKind kind)
    {
        SnapshotScene scene = await SnapshotScene.MakeAsync(SnapshotScene.Geometries[0]);
        (StorageLog log, _) = await RecordAsync(scene, kind);
        StorageLogEntry header = log.Entries.Last(entry => entry.Kind == StorageCalls.Write && entry.Offset == 0);
        StorageLogEntry flush = log.Entries.Last(entry => entry.Kind == StorageCalls.Flush && entry.End < header.Begin);
        CrashImages images = new(log, scene.File, lost => lost == flush);
        images.AdvanceTo(header.End + 1);
        Random random = new(1);
        for (int i = 0; i < 2 + (2 * images.PendingCount); i++)
        {
            try
            {
                Dictionary<string, byte[]> found = await scene.ReadAllAsync(images.Draw(i, random).ToFile());
                if (!SnapshotScene.AreEqual(found, scene.Before) && !SnapshotScene.AreEqual(found, scene.After(kind)))
                {
                    return;
                }
            }
            catch (Exception e) when (e is not Xunit.Sdk.XunitException)
            {
                return;
            }
        }

        Assert.Fail("the test does not see it");
    }

    private static async Task<(StorageLog Log, long Returned)> RecordAsync(SnapshotScene scene, SnapshotChangeKind kind)
    {
        StorageLog log = new();
        MemoryFile memory = new("top", readOnly: false, scene.File);
        BlockDevice device = await scene.OpenAsync(new RecordingFile(memory, log));
        await SnapshotScene.ChangeAsync(device, kind);
        long returned = log.Tick();
        await device.DisposeAsync();
        Assert.True(SnapshotScene.AreEqual(scene.After(kind), await scene.ReadAllAsync(memory, mustBeClean: true)));
        return (log, returned);
    }
}
