using System.Security.Cryptography;
using BlockMount.Base;
using BlockMount.Formats;
using BlockMount.Formats.Qcow2.Check;
using BlockMount.Formats.Qcow2.Repair;
using BlockMount.Storage;
using BlockMount.TestSupport;
using BlockMount.TestSupport.Damage;
using BlockMount.TestSupport.Faults;
using Xunit;

namespace BlockMount.Tests.Check;

/// <summary>
/// Every damage of <see cref="DamageCatalog"/>, repaired: both programs call the image clean, what the report does not name reads as before the damage,
/// and the repair can be taken back bit by bit.
/// </summary>
public sealed class RepairTests : IDisposable
{
    // No reader of the format opens these.
    private static readonly string[] s_refused = ["4k: unknown incompatible bit", "4k: header has an L1 table that is too short"];

    private readonly ScratchFolder _folder = new();

    public static TheoryData<string> Cases { get; } = [.. DamageCatalog.All.Select(damage => damage.ToString()).Except(s_refused)];

    public static TheoryData<string> Refused { get; } = [.. s_refused];

    public void Dispose() => _folder.Dispose();

    [RequiresTheory(Needs.None, "qemu-img", "qemu-io")]
    [MemberData(nameof(Cases))]
    public async Task RepairAll_OfDamagedImage_IsCleanForBothAndKeepsWhatCanBeKept(string name)
    {
        DamageCase damage = DamageCatalog.Get(name);
        SoundImage sound = await SoundImage.GetAsync(damage.Recipe);
        byte[] image = await HarmAsync(damage, sound);
        MemoryFile file = new("image", readOnly: false, image);
        MemoryFile undoFile = new("undo");
        await using UndoLog undo = new(() => ValueTask.FromResult<StorageFile>(undoFile.Reopen()));
        RepairResult result = await ImageRepair.RunAsync(new UndoRecordingFile(file.Reopen(), undo), RepairMode.All);
        await undo.SealAsync(file);

        string both = $"before: {result.Before}\nafter: {result.After}";
        Assert.True(result.After.IsClean, both);
        await QemuImg.SaveAsync(_folder["repaired"], file.ToArray());
        QemuImg.Verdict theirs = await QemuImg.CheckAsync(_folder["repaired"]);
        Assert.True(theirs.ExitCode == 0, $"{both}\ntheirs: {theirs.ExitCode} {theirs.Text}");
        await SameContentAsync(damage, sound, result.Before);
        await NothingLeftToDoAsync(file);
        await UndoneAsync(undo, undoFile, file, image);
    }

    [RequiresTheory(Needs.None, "qemu-img", "qemu-io")]
    [MemberData(nameof(Refused))]
    public async Task RepairAll_OfImageThatNobodyCanRead_ChangesNothing(string name)
    {
        DamageCase damage = DamageCatalog.Get(name);
        byte[] image = await HarmAsync(damage, await SoundImage.GetAsync(damage.Recipe));
        MemoryFile file = new("image", readOnly: false, image);
        await Assert.ThrowsAsync<ImageFormatException>(async () => await ImageRepair.RunAsync(file, RepairMode.All));
        Assert.True(file.Content.SequenceEqual(image));
    }

    [RequiresTheory(Needs.None, "qemu-img", "qemu-io")]
    [InlineData("4k: data cluster leaked")]
    [InlineData("4k: refcount of data is 2")]
    [InlineData("snapshots: shared data has refcount 4")]
    [InlineData("4k: leaked clusters at the end")]
    [InlineData("4k: two L2 entries to one cluster")]
    [InlineData("4k: refcount of data is 0")]
    [InlineData("512: refcount table entry is 0")]
    [InlineData("4k: refcount block is an L2 table")]
    // Not with bitmaps and clusters whose refcount is 0: QEMU marks the bitmaps as in use before it checks anything, and overwrites those clusters.
    public async Task RepairLeaks_LeavesWhatQemuImgLeaves(string name)
    {
        DamageCase damage = DamageCatalog.Get(name);
        byte[] image = await HarmAsync(damage, await SoundImage.GetAsync(damage.Recipe));
        MemoryFile file = new("image", readOnly: false, image);
        RepairResult result = await ImageRepair.RunAsync(file, RepairMode.Leaks);
        ToolResult theirs = await ToolProcess.RunAsync("qemu-img", "check", "-f", "qcow2", "-r", "leaks", "--output", "json", _folder["damaged"]);
        QemuImg.Verdict left = await QemuImg.CheckAsync(_folder["damaged"]);
        Assert.True((left.Corruptions, left.Leaks) == (result.After.Corruptions, result.After.Leaks), $"{result.After}\n{left.Text}\n{theirs.Output}");
        // Neither works on a refcount structure that must be made anew.
        Assert.Equal(theirs.ExitCode == 1, result.Refused is not null);
        Assert.Equal(result.Before.RefcountsNeedRebuild, result.Refused is not null);
        Assert.True(result.Refused is null ? result.After.Leaks == 0 : file.Content.SequenceEqual(image));
    }

    [RequiresTheory(Needs.None, "qemu-img", "qemu-io")]
    [InlineData("everything: many damages at once")]
    [InlineData("512: refcount table entry is 0")]
    [InlineData("snapshots: snapshot's L1 table misaligned")]
    [InlineData("4k: counted L2 entry to the L1 table")]
    public async Task Undo_AfterRepairThatFailedAnywhere_RestoresEveryBit(string name)
    {
        DamageCase damage = DamageCatalog.Get(name);
        byte[] image = await HarmAsync(damage, await SoundImage.GetAsync(damage.Recipe));
        bool failed = true;
        int n = 0;
        for (; failed; n++)
        {
            Assert.True(n < 1000, "the repair writes without end");
            MemoryFile file = new("image", readOnly: false, image);
            MemoryFile undoFile = new("undo");
            await using UndoLog undo = new(() => ValueTask.FromResult<StorageFile>(undoFile.Reopen()));
            FaultyFile breaking = new(file.Reopen(), new FaultPlan { Calls = StorageCalls.Write, FailFrom = n + 1, Forever = true, ShortTransfer = true });
            failed = await FailsAsync(async () => await ImageRepair.RunAsync(new UndoRecordingFile(breaking, undo), RepairMode.All));
            if (undo.IsStarted)
            {
                await RepairUndo.RestoreAsync(undoFile.Reopen(), file.Reopen());
            }

            Assert.True(file.Content.SequenceEqual(image), $"after {n} writes");
        }

        Assert.True(n > 3);
    }

    [RequiresTheory(Needs.None, "qemu-img", "qemu-io")]
    [InlineData("4k: dirty bit", true)]
    [InlineData("4k: dirty bit and a leak", true)]
    [InlineData("512: refcount of data is 0", true)]
    [InlineData("512: refcount table entry is 0", true)]
    [InlineData("snapshots: shared data is COPIED", true)]
    [InlineData("4k: L2 entry outside the file", false)]
    [InlineData("4k: two L2 entries to one cluster", false)]
    [InlineData("4k: counted L2 entry to the L1 table", false)]
    public async Task RepairDirty_MendsStaleRefcountsAndNothingElse(string name, bool repairs)
    {
        DamageCase damage = DamageCatalog.Get(name);
        ImageSurgeon surgeon = new(await HarmAsync(damage, await SoundImage.GetAsync(damage.Recipe)));
        surgeon.SetU64(72, 1);
        MemoryFile file = new("image", readOnly: false, surgeon.Bytes.Span);
        if (repairs)
        {
            await ImageRepair.RepairDirtyAsync(file);
            await QemuImg.SaveAsync(_folder["repaired"], file.ToArray());
            Assert.Equal(0, (await QemuImg.CheckAsync(_folder["repaired"])).ExitCode);
            Assert.Equal(0UL, new ImageSurgeon(file.Content).U64(72));
        }
        else
        {
            ImageFormatException refused = await Assert.ThrowsAsync<ImageFormatException>(async () => await ImageRepair.RepairDirtyAsync(file));
            Assert.Contains("check -r all", refused.Hint, StringComparison.Ordinal);
            Assert.True(file.Content.SequenceEqual(surgeon.Bytes.Span));
        }
    }

    [RequiresFact(Needs.None, "qemu-img", "qemu-io")]
    public async Task Report_NamesTheGuestRangesThatAreHit()
    {
        const ulong Far = (1UL << 63) | (1UL << 40);
        SoundImage sound = await SoundImage.GetAsync("snapshots");
        ImageSurgeon surgeon = new(sound.Bytes);
        surgeon.SetL2(1, Far);
        surgeon.SetL2(2, Far + 4096);
        surgeon.SetL2(5, Far + 512);
        surgeon.SetL1(1, surgeon.L1(1) + 512);
        surgeon.SetU64(surgeon.SnapshotL1(1) + 8, 512);
        await using MemoryFile file = new("image", readOnly: true, surgeon.Bytes.Span);
        CheckReport report = await ConsistencyCheck.RunAsync(file);
        GuestRange[] disk = [new(null, 4096, 8192), new(null, 5 * 4096, 4096), new(null, 2 << 20, 2 << 20)];
        Assert.Equal(disk, report.Damage.Ranges.Where(range => range.Snapshot is null));
        // Both disk states still share what was written first, so the snapshots' first tables are their own copies of it.
        Assert.Contains(new GuestRange("snapshot1", 2 << 20, 2 << 20), report.Damage.Ranges);
        Assert.DoesNotContain(report.Damage.Ranges, range => range.Snapshot == "snapshot0");
        Assert.Equal(report.Damage.Ranges.Sum(range => range.Length), report.Damage.TotalBytes);
    }

    [Fact]
    public void GuestDamage_BeyondItsBound_IsCountedAndCoversEverything()
    {
        GuestDamage damage = new();
        for (int i = 0; i < GuestDamage.RangesMax + 500; i++)
        {
            damage.Add(null, i * 8192L, 4096);
        }

        damage.Normalize();
        Assert.Equal(GuestDamage.RangesMax, damage.Ranges.Count);
        Assert.Equal((GuestDamage.RangesMax + 500, (GuestDamage.RangesMax + 500) * 4096L), (damage.TotalRanges, damage.TotalBytes));
        Assert.True(damage.IsCutOff && damage.Covers(null, long.MaxValue));
    }

    [RequiresFact(Needs.None, "qemu-img", "qemu-io")]
    public async Task Undo_OfImageUsedSince_IsRefused()
    {
        DamageCase damage = DamageCatalog.Get("4k: all refcounts of a range are 0".Replace("4k", "2bit", StringComparison.Ordinal));
        SoundImage sound = await SoundImage.GetAsync(damage.Recipe);
        (MemoryFile file, MemoryFile undoFile) = await RepairAsync(await HarmAsync(damage, sound));
        ImageSurgeon later = new(file.Content);
        later.SetRefcount(later.End - later.ClusterSize, 2);
        await file.WriteAsync(0, later.Bytes);
        byte[] before = file.ToArray();
        ImageFormatException refused = await Assert.ThrowsAsync<ImageFormatException>(async () => await RepairUndo.RestoreAsync(undoFile.Reopen(), file.Reopen()));
        Assert.Contains("changed since", refused.Message, StringComparison.Ordinal);
        Assert.True(file.Content.SequenceEqual(before));
    }

    [RequiresFact(Needs.None, "qemu-img", "qemu-io")]
    public async Task Undo_OfAnotherImage_IsRefused()
    {
        (_, MemoryFile undoFile) = await RepairAsync(await HarmAsync(DamageCatalog.Get("4k: data cluster leaked"), await SoundImage.GetAsync("4k")));
        MemoryFile other = new("other", readOnly: false, (await SoundImage.GetAsync("512")).Bytes);
        ImageFormatException refused = await Assert.ThrowsAsync<ImageFormatException>(async () => await RepairUndo.RestoreAsync(undoFile.Reopen(), other));
        Assert.Contains("another image", refused.Message, StringComparison.Ordinal);
    }

    private static async Task<(MemoryFile Image, MemoryFile Undo)> RepairAsync(byte[] image)
    {
        MemoryFile file = new("image", readOnly: false, image);
        MemoryFile undoFile = new("undo");
        await using UndoLog undo = new(() => ValueTask.FromResult<StorageFile>(undoFile.Reopen()));
        RepairResult result = await ImageRepair.RunAsync(new UndoRecordingFile(file.Reopen(), undo), RepairMode.All);
        Assert.True(result.After.IsClean, result.After.ToString());
        await undo.SealAsync(file);
        return (file, undoFile);
    }

    private static async Task<bool> FailsAsync(Func<Task> run)
    {
        try
        {
            await run();
            return false;
        }
        catch (BlockIOException)
        {
            return true;
        }
    }

    private static async Task NothingLeftToDoAsync(MemoryFile file)
    {
        byte[] repaired = file.ToArray();
        RepairResult again = await ImageRepair.RunAsync(file.Reopen(), RepairMode.All);
        Assert.True(again.Before.IsClean);
        Assert.True(file.Content.SequenceEqual(repaired));
    }

    private static async Task UndoneAsync(UndoLog undo, MemoryFile undoFile, MemoryFile file, byte[] original)
    {
        if (undo.IsStarted)
        {
            await RepairUndo.RestoreAsync(undoFile.Reopen(), file.Reopen());
        }

        Assert.Equal(SHA256.HashData(original), SHA256.HashData(file.Content));
    }

    private async Task SameContentAsync(DamageCase damage, SoundImage sound, CheckReport before)
    {
        int clusterSize = new ImageSurgeon(sound.Bytes).ClusterSize;
        byte[] content = await QemuImg.SalvageGuestAsync(_folder["repaired"], _folder["guest"]);
        SameOutside(content, sound.Content, offset => before.Damage.Covers(null, offset) || damage.Dropped.Contains((int)(offset / clusterSize)), "disk", before);
        foreach ((string name, byte[] expected) in sound.Snapshots)
        {
            if (damage.DroppedSnapshots.Contains(name) || Enumerable.Range(0, expected.Length / 512).All(i => before.Damage.Covers(name, i * 512L)))
            {
                continue;
            }

            byte[] read = await QemuImg.SalvageGuestAsync(_folder["repaired"], _folder["guest"], name);
            // Tables that a snapshot shares with the disk are dropped for both.
            SameOutside(
                read, expected, offset => before.Damage.Covers(name, offset) || damage.Dropped.Contains((int)(offset / clusterSize)), name, before);
        }
    }

    private static void SameOutside(byte[] content, byte[] expected, Func<long, bool> isExcused, string what, CheckReport report)
    {
        Assert.Equal(expected.Length, content.Length);
        for (int offset = 0; offset < content.Length; offset += 512)
        {
            if (!content.AsSpan(offset, 512).SequenceEqual(expected.AsSpan(offset, 512)))
            {
                Assert.True(isExcused(offset), $"{what} reads another content at {offset}\n{report}\n{string.Join("; ", report.Damage.Ranges)}");
            }
        }
    }

    private async Task<byte[]> HarmAsync(DamageCase damage, SoundImage sound)
    {
        ImageSurgeon surgeon = new(sound.Bytes);
        damage.Harm(surgeon);
        byte[] image = surgeon.Bytes.ToArray();
        await sound.PlaceDataFileAsync(_folder, image);
        await QemuImg.SaveAsync(_folder["damaged"], image);
        return image;
    }
}
