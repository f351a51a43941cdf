using BlockMount.Block.Devices;
using BlockMount.Formats.Qcow2.Check;
using BlockMount.Formats.Qcow2.Repair;
using BlockMount.Storage;
using BlockMount.TestSupport;
using BlockMount.TestSupport.Crash;
using BlockMount.TestSupport.Damage;
using BlockMount.TestSupport.Images;
using Xunit;

namespace BlockMount.Tests.Check;

/// <summary>
/// The power goes out during a repair: the image is not worse than before (nothing is lost that the damage had not lost), and a second repair finishes,
/// even if the power goes out again.
/// </summary>
public sealed class RepairPowerCutTests
{
    private const int DrawsPerCut = 12;

    public static TheoryData<string> Cases { get; } =
    [
        "512: refcount of data is 0", "4k: refcount of data is 2", "512: refcount table entry is 0", "512: second refcount table entry is 0", "512: two refcount blocks at one place",
        "4k: refcount block is an L2 table", "4k: L1 entry misaligned", "4k: L2 entry misaligned", "4k: L2 entry outside the file", "4k: two L2 entries to one cluster",
        "1bit: two L1 entries to one table", "4k: L2 entry to the L1 table", "4k: counted L2 entry to the L1 table", "4k: L1 entry to guest data", "4k: L1 table outside the file",
        "snapshots: shared data has refcount 1", "snapshots: shared data is COPIED", "snapshots: snapshot's L1 table misaligned", "snapshots: snapshot's L1 table is the active one",
        "snapshots: snapshot without the extra data of version 3", "snapshots: snapshot forgotten", "everything: all COPIED flags cleared", "everything: many damages at once",
        "bitmaps: bitmap table entry has reserved bits", "bitmaps: bitmap data is guest data", "compressed: compressed cluster outside the file",
    ];

    [RequiresTheory(Needs.None, "qemu-img", "qemu-io")]
    [MemberData(nameof(Cases))]
    public async Task PowerCut_DuringRepair_LosesNothingAndASecondRepairFinishes(string name)
    {
        DamageCase damage = DamageCatalog.Get(name);
        SoundImage sound = await SoundImage.GetAsync(damage.Recipe);
        ImageSurgeon surgeon = new(sound.Bytes);
        damage.Harm(surgeon);
        byte[] damaged = surgeon.Bytes.ToArray();
        Random random = new(name.Length);
        StorageLog log = new();
        RepairResult repaired = await ImageRepair.RunAsync(new RecordingFile(new MemoryFile("image", readOnly: false, damaged), log), RepairMode.All);
        Assert.True(repaired.After.IsClean, repaired.After.ToString());

        CrashImages images = new(log, damaged);
        foreach (long cut in CrashImages.Cuts(log))
        {
            images.AdvanceTo(cut);
            for (int draw = 0; draw < DrawsPerCut; draw++)
            {
                MemoryFile crashed = images.Draw(draw, random).ToFile();
                string state = $"cut {cut}, draw {draw}, pending: {images.DescribePending()}";
                byte[] copy = crashed.ToArray();
                StorageLog secondLog = new();
                await FinishesAsync(new RecordingFile(crashed.Reopen(), secondLog), crashed, damage, sound, repaired.Before, state);
                if (draw == cut % DrawsPerCut)
                {
                    await SecondCutAsync(copy, secondLog, random, damage, sound, repaired.Before, state);
                }
            }
        }
    }

    private static async Task SecondCutAsync(byte[] crashed, StorageLog log, Random random, DamageCase damage, SoundImage sound, CheckReport before, string state)
    {
        CrashImages images = new(log, crashed);
        long[] cuts = [.. CrashImages.Cuts(log)];
        long cut = cuts[random.Next(cuts.Length)];
        images.AdvanceTo(cut);
        MemoryFile again = images.Draw(random.Next(4), random).ToFile();
        await FinishesAsync(again.Reopen(), again, damage, sound, before, $"{state}; second cut {cut}");
    }

    private static async Task FinishesAsync(StorageFile handle, MemoryFile file, DamageCase damage, SoundImage sound, CheckReport before, string state)
    {
        RepairResult result = await ImageRepair.RunAsync(handle, RepairMode.All);
        Assert.True(result.After.IsClean, $"{state}\nbefore: {result.Before}\nafter: {result.After}");
        byte[] content = await ReadAsync(file, sound);
        int clusterSize = new ImageSurgeon(sound.Bytes).ClusterSize;
        for (int offset = 0; offset < content.Length; offset += 512)
        {
            if (!content.AsSpan(offset, 512).SequenceEqual(sound.Content.AsSpan(offset, 512)))
            {
                Assert.True(
                    before.Damage.Covers(null, offset) || damage.Dropped.Contains(offset / clusterSize), $"{state}\nthe disk reads another content at {offset}\n{result.Before}");
            }
        }
    }

    private static async Task<byte[]> ReadAsync(MemoryFile file, SoundImage sound)
    {
        ImageSurgeon surgeon = new(file.Content);
        ImageGeometry geometry = new() { ClusterBits = surgeon.ClusterBits, Size = sound.Content.Length, TinyCache = false };
        BlockDevice device = await TestChain.Of(file, geometry, sound.Content).OpenAsync(file.Reopen());
        try
        {
            byte[] content = new byte[device.Size];
            await device.ReadAsync(0, content);
            return content;
        }
        finally
        {
            await device.DisposeAsync();
        }
    }
}
