using BlockMount.Base;
using BlockMount.Block.Nodes;
using BlockMount.Formats;
using BlockMount.Formats.Qcow2;
using BlockMount.Formats.Qcow2.Bitmaps;
using BlockMount.Formats.Qcow2.Check;
using BlockMount.Formats.Qcow2.Metadata;
using BlockMount.Formats.Qcow2.OnDisk;
using BlockMount.Tests.Formats.Qcow2;
using BlockMount.Tests.Formats.Qcow2.Bitmaps;
using BlockMount.TestSupport;
using BlockMount.TestSupport.Images;
using BlockMount.TestSupport.Model;
using Xunit;

namespace BlockMount.Tests.Snapshots;

/// <summary>What an open image must still know after a change of its snapshots has put other tables in force.</summary>
public sealed class TableSwitchTests
{
    private const int Cluster = 1024;
    private const int Size = 256 << 10;

    private readonly List<CorruptionReport> _reports = [];

    // The bitmaps are made in the session itself: the header that was read at the opening knows nothing of them.
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Bitmaps_SurviveCreateAndDelete(bool guestWrites)
    {
        MemoryFile file = Empty();
        byte[] recorded = Bits(seed: 1);
        byte[] stopped = Bits(seed: 2);
        (FormatNode node, Qcow2Driver driver) = await OpenAsync(file);
        await driver.Bitmaps!.PutAsync("recording", 9, auto: true, BitmapImage.Source(recorded));
        await driver.Bitmaps.PutAsync("stopped", 9, auto: false, BitmapImage.Source(stopped));
        if (guestWrites)
        {
            await node.WriteAsync(0, new byte[Cluster]);
        }

        await driver.Snapshots.CreateAsync("one", SnapshotModel.Moment);
        await AssertInUseAsync(file);
        await driver.Bitmaps!.PutAsync("third", 9, auto: false, BitmapImage.Source(stopped));
        await driver.Snapshots.CreateAsync("two", SnapshotModel.Moment);
        await driver.Snapshots.DeleteAsync("one");
        await driver.Bitmaps!.RemoveAsync("third");
        await driver.Snapshots.DeleteAsync("two");
        await AssertInUseAsync(file);
        await node.DisposeAsync();

        MemoryFile handle = file.Reopen(readOnly: true);
        BitmapDirectory directory = await BitmapImage.ListAsync(handle);
        Assert.Null(directory.Problem);
        Assert.Equal(["recording", "stopped"], directory.Bitmaps.Select(bitmap => bitmap.Name));
        Assert.Equal(guestWrites, directory.Bitmaps[0].IsInUse);
        Assert.True(directory.Bitmaps[1].IsConsistent);
        Assert.Equal(recorded, await BitmapImage.ReadAsync(handle, directory.Bitmaps[0]));
        Assert.Equal(stopped, await BitmapImage.ReadAsync(handle, directory.Bitmaps[1]));
        await AssertCleanAsync(file);
    }

    // A snapshot may have another size: a bitmap that is made after it was applied has the bits of the disk as it is then.
    [Theory]
    [InlineData(64 << 10)]
    [InlineData(8 << 20)]
    public async Task BitmapMadeAfterApply_HasTheSizeOfTheDisk(int otherSize)
    {
        MemoryFile file = Empty();
        (FormatNode node, Qcow2Driver driver) = await OpenAsync(file);
        await driver.Snapshots.CreateAsync("one", SnapshotModel.Moment);
        await driver.ResizeAsync(otherSize);
        await driver.Snapshots.ApplyAsync("one");
        Assert.Equal(Size, driver.VirtualSize);
        byte[] bits = Bits(seed: 1);
        await driver.Bitmaps!.PutAsync("later", 9, auto: false, BitmapImage.Source(bits));
        await node.DisposeAsync();

        MemoryFile handle = file.Reopen(readOnly: true);
        StoredBitmap stored = Assert.Single((await BitmapImage.ListAsync(handle)).Bitmaps);
        Assert.True(stored.IsConsistent, stored.Defect);
        Assert.Equal(bits, await BitmapImage.ReadAsync(handle, stored));
        await AssertCleanAsync(file);
    }

    // Every new table is known to the overlap checks: an entry that points there is found before anything is written.
    [Theory]
    [InlineData("L1")]
    [InlineData("L2")]
    [InlineData("refcount table")]
    [InlineData("refcount block")]
    [InlineData("snapshot table")]
    [InlineData("inactive L1")]
    [InlineData("inactive L2")]
    [InlineData("bitmap directory")]
    public async Task TablesAfterASwitch_AreProtected(string table)
    {
        MemoryFile file = Empty();
        (FormatNode node, Qcow2Driver driver) = await OpenAsync(file, new Qcow2OpenOptions { OverlapCheck = MetadataKinds.All, OnCorruption = _reports.Add });
        await node.WriteAsync(0, new byte[20 * Cluster]);
        await driver.Bitmaps!.AddAsync("b", 9, auto: false);
        await driver.Snapshots.CreateAsync("one", SnapshotModel.Moment);
        await node.WriteAsync(0, new byte[2 * Cluster]);
        await driver.Snapshots.CreateAsync("two", SnapshotModel.Moment);
        await driver.Snapshots.DeleteAsync("two");
        LiveImageSurgeon surgeon = new(file);
        long target = table switch
        {
            "L1" => surgeon.L1,
            "L2" => surgeon.L2(),
            "refcount table" => surgeon.RefcountTable,
            "refcount block" => surgeon.RefcountBlock(),
            "snapshot table" => surgeon.SnapshotTable,
            "inactive L1" => surgeon.SnapshotL1,
            "inactive L2" => surgeon.SnapshotL2,
            _ => (await BitmapImage.ListAsync(file)).Offset,
        };
        // The new tables' caches are still empty.
        surgeon.SetL2(0, (ulong)target | LiveImageSurgeon.Copied);
        await Assert.ThrowsAsync<BlockIOException>(() => node.WriteAsync(100, new byte[200]).AsTask());
        Assert.Equal(target, Assert.Single(_reports).HostOffset);
    }

    // What the old tables took is free, for the checks too: it can be used again without anything being reported.
    [Fact]
    public async Task ClustersOfOldTables_AreUsedAgain()
    {
        MemoryFile file = Empty();
        (FormatNode node, Qcow2Driver driver) = await OpenAsync(file, new Qcow2OpenOptions { OverlapCheck = MetadataKinds.All, OnCorruption = _reports.Add });
        await node.WriteAsync(0, new byte[20 * Cluster]);
        LiveImageSurgeon surgeon = new(file);
        await driver.FlushAsync();
        HashSet<long> old = [surgeon.L1, surgeon.RefcountTable, surgeon.RefcountBlock()];
        await driver.Snapshots.CreateAsync("one", SnapshotModel.Moment);
        old.UnionWith([surgeon.L1, surgeon.RefcountTable, surgeon.RefcountBlock(), surgeon.SnapshotTable, surgeon.SnapshotL1]);
        await driver.Snapshots.DeleteAsync("one");
        old.ExceptWith([surgeon.L1, surgeon.L2(), surgeon.RefcountTable, surgeon.RefcountBlock()]);
        Assert.NotEmpty(old);
        await node.WriteAsync(0, new byte[100 * Cluster]);
        await node.FlushAsync();
        Assert.Subset(Enumerable.Range(0, 100).Select(surgeon.Data).ToHashSet(), old);
        Assert.Empty(_reports);
        await node.DisposeAsync();
        await AssertCleanAsync(file);
    }

    [Fact]
    public async Task LazyRefcounts_StayLazy_AndTheDirtyBitIsRight()
    {
        MemoryFile file = Empty();
        (FormatNode node, Qcow2Driver driver) = await OpenAsync(file, new Qcow2OpenOptions { LazyRefcounts = true });
        for (int round = 0; round < 3; round++)
        {
            await node.WriteAsync(round * 10 * Cluster, new byte[5 * Cluster]);
            await node.FlushAsync();
            Assert.True(IsDirty(file));
            await driver.Snapshots.CreateAsync($"s{round}", SnapshotModel.Moment);
            // Whatever the bit says, the refcounts in force are complete.
            Assert.Equal(0, (await ConsistencyCheck.RunAsync(file.Reopen(readOnly: true))).Corruptions);
        }

        await node.WriteAsync(50 * Cluster, new byte[5 * Cluster]);
        await node.FlushAsync();
        Assert.True(IsDirty(file));
        await node.DisposeAsync();
        Assert.False(IsDirty(file));
        await AssertCleanAsync(file);
    }

    private static async Task AssertInUseAsync(MemoryFile file)
    {
        Qcow2Header header = await Qcow2HeaderReader.LoadAsync(file);
        Assert.NotEqual(0ul, header.AutoclearFeatures & FeatureBits.Bitmaps);
        BitmapDirectory directory = await BitmapImage.ListAsync(file);
        Assert.Equal(2, directory.Bitmaps.Count);
        Assert.All(directory.Bitmaps, bitmap => Assert.True(bitmap.IsInUse));
    }

    private static async Task AssertCleanAsync(MemoryFile file)
    {
        CheckReport report = await ConsistencyCheck.RunAsync(file.Reopen(readOnly: true));
        Assert.True(report.IsClean, report.ToString());
    }

    private static bool IsDirty(MemoryFile file) => (new LiveImageSurgeon(file).Incompatible & FeatureBits.Dirty) != 0;

    private static byte[] Bits(int seed)
    {
        byte[] bits = new byte[Size / 512 / 8];
        new Random(seed).NextBytes(bits);
        return bits;
    }

    private static MemoryFile Empty() => new("image", readOnly: false, EmptyImage.Create(new ImageGeometry { ClusterBits = 10, Size = Size }));

    private static async Task<(FormatNode Node, Qcow2Driver Driver)> OpenAsync(MemoryFile file, Qcow2OpenOptions? options = null)
    {
        Qcow2Driver driver = await Qcow2Driver.OpenAsync(file.Reopen(), options ?? new Qcow2OpenOptions());
        return (new FormatNode("node0", "image", driver, backing: null), driver);
    }
}
