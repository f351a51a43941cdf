using System.Buffers.Binary;
using BlockMount.Base;
using BlockMount.Block.Devices;
using BlockMount.Block.Nodes;
using BlockMount.Formats;
using BlockMount.Formats.Qcow2;
using BlockMount.Formats.Qcow2.Check;
using BlockMount.Formats.Qcow2.OnDisk;
using BlockMount.Formats.Qcow2.Snapshots;
using BlockMount.Formats.Raw;
using BlockMount.TestSupport;
using BlockMount.TestSupport.Images;
using BlockMount.TestSupport.Model;
using Xunit;

namespace BlockMount.Tests.Snapshots;

/// <summary>Limits, growth, and counting in many windows.</summary>
public sealed class SnapshotDriverTests
{
    // RELIABILITY D6: what a deleted snapshot used is used again.
    [Theory]
    [InlineData(9, 4)]
    [InlineData(12, 1)]
    public async Task ThousandRoundsOfCreateAndDelete_DoNotGrowTheFile(int clusterBits, int refcountOrder)
    {
        ImageGeometry geometry = new() { ClusterBits = clusterBits, RefcountOrder = refcountOrder, Size = 64 << 10, TinyCache = false };
        TestChain chain = await TestChain.CreateAsync(geometry, seed: 1);
        await using BlockDevice device = await chain.OpenAsync(chain.Top.Reopen());
        byte[] data = new byte[geometry.Size];
        new Random(1).NextBytes(data);
        await device.WriteAsync(0, data);
        long afterTen = 0;
        for (int round = 0; round < 1000; round++)
        {
            await device.CreateSnapshotAsync("s", SnapshotModel.Moment);
            await device.WriteAsync(round * 64 % (60 << 10), data.AsMemory(0, 1000));
            if (round % 3 == 0)
            {
                await device.ApplySnapshotAsync("s");
            }

            await device.DeleteSnapshotAsync("s");
            afterTen = round == 10 ? chain.Top.Length : afterTen;
        }

        Assert.True(chain.Top.Length <= afterTen + (8 * geometry.ClusterSize), $"{afterTen} bytes after ten rounds, {chain.Top.Length} after a thousand");
        Assert.True((await ConsistencyCheck.RunAsync(chain.Top.Reopen(readOnly: true))).Corruptions == 0);
    }

    // Host clusters are counted window by window. Here 64 at a time, so that tables and their clusters lie in different ones.
    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public async Task SmallWindows_GiveTheSameAsOne(int seed)
    {
        ImageGeometry geometry = new() { Size = 512 << 10, RefcountOrder = 2 + (seed % 4), Version = 3 };
        TestChain chain = await TestChain.CreateAsync(geometry, seed);
        Random random = new(seed);
        byte[] model = new byte[geometry.Size];
        Dictionary<string, byte[]> kept = [];
        (BlockDevice device, Qcow2Driver driver) = await OpenAsync(chain);
        ((Qcow2Snapshots)driver.Snapshots).WindowClusters = 64;
        for (int step = 0; step < 40; step++)
        {
            for (int i = 0; i < 6; i++)
            {
                int offset = random.Next(model.Length - 20_000);
                byte[] data = new byte[random.Next(1, 20_000)];
                random.NextBytes(data);
                await device.WriteAsync(offset, data);
                data.CopyTo(model, offset);
            }

            string name = $"s{step}";
            if (kept.Count < 3)
            {
                await device.CreateSnapshotAsync(name, SnapshotModel.Moment);
                kept.Add(name, (byte[])model.Clone());
            }
            else
            {
                string other = kept.Keys.ElementAt(random.Next(kept.Count));
                await device.DeleteSnapshotAsync(other);
                kept.Remove(other);
                string back = kept.Keys.ElementAt(random.Next(kept.Count));
                await device.ApplySnapshotAsync(back);
                kept[back].CopyTo(model, 0);
            }

            CheckReport report = await ConsistencyCheck.RunAsync(chain.Top.Reopen(readOnly: true));
            Assert.True(report.IsClean, $"step {step}: {report}");
        }

        byte[] read = new byte[model.Length];
        await device.ReadAsync(0, read);
        Assert.True(read.AsSpan().SequenceEqual(model));
        foreach ((string name, byte[] content) in kept)
        {
            Assert.True(SnapshotImage.Same(content, await chain.ReadSnapshotAsync(chain.Top.Reopen(readOnly: true), name)), name);
        }

        await device.DisposeAsync();
    }

    [Fact]
    public async Task Create_With65536Snapshots_IsRefused()
    {
        MemoryFile file = WithSnapshots(65536);
        (BlockDevice device, _) = await OpenAsync(TestChain.Of(file, new ImageGeometry(), []));
        Assert.Equal(65536, (await device.ListSnapshotsAsync()).Count);
        var e = await Assert.ThrowsAsync<BlockIOException>(async () => await device.CreateSnapshotAsync("one more", SnapshotModel.Moment));
        Assert.Equal(Errno.EFBIG, e.Errno);
        await device.DisposeAsync();
    }

    [Theory]
    [InlineData(8, 0x7fffffff, "entries")]
    [InlineData(0, 0x01000000, "past the end")]
    [InlineData(4, 0x00000201, "not aligned")]
    [InlineData(48, 0x7fffffff, "disk size")]
    public async Task DamagedEntry_IsRefusedAndNothingChanges(int offset, int value, string words)
    {
        MemoryFile file = WithSnapshots(1);
        byte[] patch = new byte[4];
        BinaryPrimitives.WriteInt32BigEndian(patch, value);
        await file.WriteAsync(TableOffset + offset, patch);
        byte[] before = file.ToArray();
        foreach (Func<BlockDevice, ValueTask> use in new Func<BlockDevice, ValueTask>[] { device => device.ApplySnapshotAsync("1"), device => device.DeleteSnapshotAsync("1") })
        {
            (BlockDevice device, _) = await OpenAsync(TestChain.Of(file, new ImageGeometry(), []));
            var e = await Assert.ThrowsAsync<ImageFormatException>(async () => await use(device));
            Assert.Contains(words, e.Message, StringComparison.Ordinal);
            await device.DisposeAsync();
            Assert.Equal(before, file.ToArray());
        }

        await Assert.ThrowsAsync<ImageFormatException>(async () => await Qcow2Driver.OpenAsync(file.Reopen(readOnly: true), new Qcow2OpenOptions { ReadOnly = true, Snapshot = "1" }));
    }

    // A cluster in use whose refcount is 0: counting it up would hide that, counting it down is impossible.
    [Theory]
    [InlineData(SnapshotChangeKind.Create)]
    [InlineData(SnapshotChangeKind.Apply)]
    [InlineData(SnapshotChangeKind.Delete)]
    public async Task RefcountTooLow_IsReportedAndNothingChanges(SnapshotChangeKind kind)
    {
        SnapshotScene scene = await SnapshotScene.MakeAsync(SnapshotScene.Geometries[0]);
        MemoryFile file = new("top", readOnly: false, scene.File);
        Qcow2Header header = await Qcow2HeaderReader.LoadAsync(file);
        SnapshotEntry snapshot = (await SnapshotTable.LoadAsync(file, header))[0];
        // The L2 table that the first snapshot's and the disk's L1 tables refer to, and the cluster of its first entry.
        byte[] bytes = file.ToArray();
        foreach (long l1 in new[] { snapshot.L1TableOffset, header.L1TableOffset })
        {
            long table = Read(bytes, l1);
            for (int i = 0; i < 64; i++)
            {
                SetRefcountToZero(bytes, header, Read(bytes, table + (8 * i)));
            }
        }

        MemoryFile damaged = new("top", readOnly: false, bytes);
        BlockDevice device = await scene.OpenAsync(damaged);
        var e = await Assert.ThrowsAsync<BlockIOException>(async () => await SnapshotScene.ChangeAsync(device, kind));
        Assert.Equal(Errno.EIO, e.Errno);
        Assert.Contains("blockmount check", e.Hint, StringComparison.Ordinal);
        Assert.True(SnapshotScene.AreEqual(scene.Before, await scene.ReadAllAsync(damaged, device)));
        await device.DisposeAsync();
    }

    // COPIED means nothing in a snapshot's tables, and QEMU leaves it there at times. What is applied gets a copy without it, which belongs to the disk alone.
    [Fact]
    public async Task Apply_SnapshotsTableHasCopiedFlags_GetsACopyOfItsOwn()
    {
        SnapshotScene scene = await SnapshotScene.MakeAsync(SnapshotScene.Geometries[0]);
        MemoryFile file = new("top", readOnly: false, scene.File);
        Qcow2Header header = await Qcow2HeaderReader.LoadAsync(file);
        SnapshotEntry snapshot = (await SnapshotTable.LoadAsync(file, header))[0];
        byte[] bytes = file.ToArray();
        long table = Read(bytes, snapshot.L1TableOffset);
        Assert.NotEqual(table, Read(bytes, header.L1TableOffset));
        for (long entry = table; entry < table + header.ClusterSize; entry += 8)
        {
            bytes[entry] |= (byte)(Read(bytes, entry) == 0 ? 0 : 0x80);
        }

        MemoryFile flagged = new("top", readOnly: false, bytes);
        await using BlockDevice device = await scene.OpenAsync(flagged);
        await device.ApplySnapshotAsync("first");
        CheckReport report = await ConsistencyCheck.RunAsync(flagged.Reopen(readOnly: true));
        Assert.True(report.IsClean, report.ToString());
        Assert.True(SnapshotScene.AreEqual(scene.After(SnapshotChangeKind.Apply), await scene.ReadAllAsync(flagged, device)));
    }

    [Fact]
    public async Task FormatWithoutSnapshots_SaysSo()
    {
        await using BlockDevice device = new("raw", new FormatNode("raw", "raw", new RawDriver(new MemoryFile(content: new byte[512])), null), readOnly: false);
        Assert.Empty(await device.ListSnapshotsAsync());
        var e = await Assert.ThrowsAsync<BlockIOException>(async () => await device.CreateSnapshotAsync("s", SnapshotModel.Moment));
        Assert.Equal(Errno.EOPNOTSUPP, e.Errno);
    }

    [Fact]
    public async Task ReadOnlyDevice_RefusesAndLists()
    {
        SnapshotScene scene = await SnapshotScene.MakeAsync(SnapshotScene.Geometries[0]);
        Qcow2Driver driver = await Qcow2Driver.OpenAsync(new MemoryFile("top", readOnly: true, scene.File), new Qcow2OpenOptions { ReadOnly = true });
        await using BlockDevice device = new("ro", new FormatNode("top", "top", driver, null), readOnly: true);
        Assert.Equal(["first", "second"], (await device.ListSnapshotsAsync()).Select(snapshot => snapshot.Name));
        var e = await Assert.ThrowsAsync<BlockIOException>(async () => await device.DeleteSnapshotAsync("first"));
        Assert.Equal(Errno.EROFS, e.Errno);
    }

    [Fact]
    public async Task Apply_OtherSize_IsToldToWhoeverServesTheDisk()
    {
        SnapshotScene scene = await SnapshotScene.MakeAsync(SnapshotScene.Geometries[0]);
        await using BlockDevice device = await scene.OpenAsync(new MemoryFile("top", readOnly: false, scene.File));
        List<long> sizes = [];
        device.Resized += sizes.Add;
        await device.ApplySnapshotAsync("first");
        await device.ApplySnapshotAsync("second");
        await device.ApplySnapshotAsync("second");
        Assert.Equal([20 << 10, 40 << 10], sizes);
    }

    private const int TableOffset = 8192;

    // An empty image with a snapshot table behind it. The table's clusters are not counted, so it can be looked at, and changes find damage.
    private static MemoryFile WithSnapshots(int count)
    {
        byte[] image = EmptyImage.Create(new ImageGeometry());
        SnapshotEntry entry = new()
        {
            Id = "1",
            Name = "1",
            L1TableOffset = 512 * 3,
            L1Size = 2,
            DiskSize = 64 << 10,
            DateSeconds = 0,
            DateNanoseconds = 0,
            VmClockNanoseconds = 0,
            VmStateSize = 0,
        };
        byte[] table = SnapshotTable.Encode([.. Enumerable.Repeat(entry, count)], version: 3);
        byte[] file = new byte[TableOffset + table.Length];
        image.CopyTo(file, 0);
        table.CopyTo(file, TableOffset);
        BinaryPrimitives.WriteInt32BigEndian(file.AsSpan(Qcow2HeaderFields.SnapshotCount), count);
        BinaryPrimitives.WriteInt64BigEndian(file.AsSpan(Qcow2HeaderFields.SnapshotsOffset), TableOffset);
        return new MemoryFile("image", readOnly: false, file);
    }

    private static long Read(byte[] bytes, long offset) => BinaryPrimitives.ReadInt64BigEndian(bytes.AsSpan((int)offset)) & 0x00ff_ffff_ffff_fe00;

    private static void SetRefcountToZero(byte[] bytes, Qcow2Header header, long hostOffset)
    {
        if (hostOffset != 0)
        {
            int cluster = (int)(hostOffset >> header.ClusterBits);
            int perBlock = (8 << header.ClusterBits) >> header.RefcountOrder;
            long block = BinaryPrimitives.ReadInt64BigEndian(bytes.AsSpan((int)header.RefcountTableOffset + (8 * (cluster / perBlock))));
            RefcountEntry.Write(bytes.AsSpan((int)block, header.ClusterSize), cluster % perBlock, header.RefcountOrder, 0);
        }
    }

    private static async Task<(BlockDevice Device, Qcow2Driver Driver)> OpenAsync(TestChain chain)
    {
        Qcow2Driver driver = await Qcow2Driver.OpenAsync(chain.Top.Reopen(), new Qcow2OpenOptions { CacheBytes = 1 });
        return (new BlockDevice("test", new FormatNode("top", "top", driver, null), readOnly: false), driver);
    }
}
