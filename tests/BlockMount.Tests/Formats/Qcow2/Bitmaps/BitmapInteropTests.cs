using BlockMount.Formats.Qcow2;
using BlockMount.Formats.Qcow2.Bitmaps;
using BlockMount.Formats.Qcow2.Check;
using BlockMount.TestSupport;
using Xunit;

namespace BlockMount.Tests.Formats.Qcow2.Bitmaps;

/// <summary>Bitmaps that QEMU stored are read bit for bit, and QEMU reads ours.</summary>
public sealed class BitmapInteropTests
{
    [RequiresTheory(Needs.None, "qemu-img", "qemu-io", "qemu-nbd", "nbdinfo")]
    [InlineData(512, 12, 3 << 20)]
    [InlineData(4096, 9, (5 << 20) + 512)]
    [InlineData(65536, 16, 256 << 20)]
    [InlineData(65536, 31, 256 << 20)]
    public async Task Bitmap_OfQemu_IsReadBitForBit(int clusterSize, int granularityBits, long size)
    {
        using ScratchFolder folder = new();
        string path = folder["image"];
        await QemuImg.RunAsync("create", "-q", "-f", "qcow2", "-o", $"cluster_size={clusterSize}", path, QemuImg.Bytes(size));
        await QemuImg.RunAsync("bitmap", "--add", "-g", QemuImg.Bytes(1L << granularityBits), path, "b");
        await QemuImg.IoAsync(path, "write 0 512", $"write 1M 64k", $"write {QemuImg.Bytes(size - 512)} 512", "discard 2M 100k");
        byte[] expected = await QemuBitmap.ReadAsync(path, "b", 1L << granularityBits, size);
        Assert.Contains(expected, b => b != 0);

        MemoryFile file = await QemuImg.LoadAsync(path, readOnly: true);
        StoredBitmap bitmap = Assert.Single((await BitmapImage.ListAsync(file)).Bitmaps);
        Assert.True(bitmap.IsConsistent && bitmap.IsAuto);
        Assert.Equal(1L << granularityBits, bitmap.Granularity);
        Assert.Equal(expected, await BitmapImage.ReadAsync(file, bitmap));
    }

    [RequiresTheory(Needs.None, "qemu-img", "qemu-nbd", "nbdinfo")]
    [InlineData(512, 12, 3 << 20)]
    [InlineData(512, 9, 9 << 20)]
    [InlineData(4096, 9, (5 << 20) + 512)]
    [InlineData(65536, 16, 256 << 20)]
    public async Task Bitmap_OfOurs_IsReadByQemuBitForBit(int clusterSize, int granularityBits, long size)
    {
        using ScratchFolder folder = new();
        string path = folder["image"];
        await QemuImg.RunAsync("create", "-q", "-f", "qcow2", "-o", $"cluster_size={clusterSize}", path, QemuImg.Bytes(size));
        await QemuImg.RunAsync("bitmap", "--add", "--disable", path, "theirs");
        MemoryFile file = await QemuImg.LoadAsync(path);
        byte[] bits = BitmapImage.Bits(size, seed: 5, granularityBits);
        Qcow2Driver driver = await BitmapImage.OpenAsync(file.Reopen());
        await driver.Bitmaps!.PutAsync("ours", granularityBits, auto: true, BitmapImage.Source(bits));
        await driver.Bitmaps.PutAsync("zeros", granularityBits, auto: false, null);
        await driver.DisposeAsync();
        await QemuImg.SaveAsync(path, file.ToArray());

        Assert.Equal(0, (await QemuImg.CheckAsync(path)).ExitCode);
        Assert.Equal(bits, await QemuBitmap.ReadAsync(path, "ours", 1L << granularityBits, size));
        Assert.DoesNotContain(await QemuBitmap.ReadAsync(path, "zeros", 1L << granularityBits, size), b => b != 0);
        await QemuImg.RunAsync("convert", "--bitmaps", "-f", "qcow2", "-O", "qcow2", path, folder["copy"]);
        Assert.Equal(bits, await QemuBitmap.ReadAsync(folder["copy"], "ours", 1L << granularityBits, size));

        // And QEMU can go on with it.
        await QemuImg.RunAsync("bitmap", "--remove", path, "theirs");
        await QemuImg.RunAsync("bitmap", "--clear", path, "ours");
        Assert.Equal(0, (await QemuImg.CheckAsync(path)).ExitCode);
    }

    // Sizes in both directions, compared with what QEMU makes of the same bitmap.
    [RequiresTheory(Needs.None, "qemu-img", "qemu-nbd", "nbdinfo")]
    [InlineData(1536 << 10)]
    [InlineData((1 << 20) + 512)]
    [InlineData(40 << 20)]
    public async Task Resize_WithABitmap_EndsAsWithQemu(long newSize)
    {
        using ScratchFolder folder = new();
        string path = folder["image"];
        const long Size = 3 << 20;
        await QemuImg.RunAsync("create", "-q", "-f", "qcow2", "-o", "cluster_size=512", path, QemuImg.Bytes(Size));
        MemoryFile file = await QemuImg.LoadAsync(path);
        Qcow2Driver driver = await BitmapImage.OpenAsync(file.Reopen());
        await driver.Bitmaps!.PutAsync("b", 12, auto: false, BitmapImage.Source(BitmapImage.Bits(Size, seed: 6, 12)));
        await driver.DisposeAsync();
        await QemuImg.SaveAsync(path, file.ToArray());
        await QemuImg.RunAsync("resize", "-q", "--shrink", path, QemuImg.Bytes(newSize));
        driver = await BitmapImage.OpenAsync(file.Reopen());
        await driver.ResizeAsync(newSize);
        await driver.DisposeAsync();
        await QemuImg.SaveAsync(folder["ours"], file.ToArray());

        Assert.Equal(0, (await QemuImg.CheckAsync(folder["ours"])).ExitCode);
        Assert.Equal(await QemuBitmap.ReadAsync(path, "b", 4096, newSize), await QemuBitmap.ReadAsync(folder["ours"], "b", 4096, newSize));
    }

    // The header with bitmaps, the name table and a backing file is longer than a sector; QEMU reads what we make of it.
    [RequiresFact(Needs.None, "qemu-img")]
    public async Task SetBackingReference_BesideBitmaps_IsReadByQemu()
    {
        using ScratchFolder folder = new();
        string path = folder["image"];
        await QemuImg.RunAsync("create", "-q", "-f", "raw", folder["other base.raw"], "1M");
        await QemuImg.RunAsync("create", "-q", "-f", "raw", folder["base.raw"], "1M");
        await QemuImg.RunAsync("create", "-q", "-f", "qcow2", "-b", "base.raw", "-F", "raw", path);
        await QemuImg.RunAsync("bitmap", "--add", path, "b");
        MemoryFile file = await QemuImg.LoadAsync(path);
        Qcow2Driver driver = await BitmapImage.OpenAsync(file.Reopen());
        await driver.SetBackingReferenceAsync(new BlockMount.Formats.BackingReference("other base.raw", "raw"));
        await driver.DisposeAsync();
        await QemuImg.SaveAsync(path, file.ToArray());
        string info = await QemuImg.RunAsync("info", "--output", "json", path);
        Assert.Contains("\"backing-filename\": \"other base.raw\"", info, StringComparison.Ordinal);
        Assert.Contains("\"name\": \"b\"", info, StringComparison.Ordinal);
        Assert.Equal(0, (await QemuImg.CheckAsync(path)).ExitCode);

        driver = await BitmapImage.OpenAsync(file.Reopen());
        await driver.SetBackingReferenceAsync(null);
        await driver.DisposeAsync();
        await QemuImg.SaveAsync(path, file.ToArray());
        Assert.DoesNotContain("backing", await QemuImg.RunAsync("info", "--output", "json", path), StringComparison.Ordinal);
        Assert.True((await ConsistencyCheck.RunAsync(file)).IsClean);
    }

    [Theory]
    [InlineData(9, 9)]
    [InlineData(9, 12)]
    [InlineData(12, 9)]
    [InlineData(16, 10)]
    [InlineData(31, 9)]
    public async Task Merge_OfTwoGranularities_IsTheUnion(int targetBits, int sourceBits)
    {
        const long Size = (1 << 20) + 1536;
        MemoryFile file = BitmapImage.Create(size: Size);
        byte[] first = BitmapImage.Bits(Size, seed: 1, targetBits);
        byte[] second = BitmapImage.Bits(Size, seed: 4, sourceBits);
        Qcow2Driver driver = await BitmapImage.OpenAsync(file.Reopen());
        PersistentBitmapStore bitmaps = driver.Bitmaps!;
        await bitmaps.PutAsync("target", targetBits, auto: false, BitmapImage.Source(first));
        await bitmaps.PutAsync("source", sourceBits, auto: false, BitmapImage.Source(second));
        BitmapMerge merge = new(bitmaps.OpenReader("target"), targetBits, bitmaps.OpenReader("source"), sourceBits, Size);
        await bitmaps.PutAsync("target", targetBits, auto: false, merge.ReadAsync);
        await driver.DisposeAsync();

        byte[] expected = (byte[])first.Clone();
        for (long sector = 0; sector < Size / 512; sector++)
        {
            long source = sector * 512 >> sourceBits;
            if ((second[source / 8] & (1 << (int)(source % 8))) != 0)
            {
                long bit = sector * 512 >> targetBits;
                expected[bit / 8] |= (byte)(1 << (int)(bit % 8));
            }
        }

        MemoryFile handle = file.Reopen(readOnly: true);
        Assert.Equal(expected, await BitmapImage.ReadAsync(handle, (await BitmapImage.ListAsync(handle)).Bitmaps[0]));
    }
}
