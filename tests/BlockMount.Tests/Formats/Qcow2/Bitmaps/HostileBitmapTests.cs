using System.Buffers.Binary;
using System.Diagnostics;
using BlockMount.Base;
using BlockMount.Formats;
using BlockMount.Formats.Qcow2;
using BlockMount.Formats.Qcow2.Bitmaps;
using BlockMount.Formats.Qcow2.Check;
using BlockMount.Formats.Qcow2.OnDisk;
using BlockMount.TestSupport;
using Xunit;

namespace BlockMount.Tests.Formats.Qcow2.Bitmaps;

/// <summary>Damaged and hostile bitmap directories: the image opens, its disk is served, the bitmap is reported and never taken for right.</summary>
public sealed class HostileBitmapTests
{
    private const long Size = 64 << 10;
    private static readonly byte[] s_guest = [1, 2, 3, 4, 5, 6, 7, 8];

    /// <summary>Where the damage goes: in the extension's content, the directory entry or the table; offset and width in bytes; the value.</summary>
    public static TheoryData<string, int, int, ulong> Damages => new()
    {
        { "extension", 0, 4, 0 },
        { "extension", 0, 4, 2 },
        { "extension", 0, 4, 65536 },
        { "extension", 0, 4, uint.MaxValue },
        { "extension", 8, 8, 0 },
        { "extension", 8, 8, 24 },
        { "extension", 8, 8, (64 << 20) + 8 },
        { "extension", 8, 8, ulong.MaxValue },
        { "extension", 16, 8, 0 },
        { "extension", 16, 8, 512 },
        { "extension", 16, 8, 1536 },
        { "extension", 16, 8, 1537 },
        { "extension", 16, 8, 1UL << 40 },
        { "extension", 16, 8, ulong.MaxValue },
        { "extension", 16, 8, long.MaxValue & ~511L },
        { "extension length", 0, 4, 16 },
        { "entry", 0, 8, 0 },
        { "entry", 0, 8, 513 },
        { "entry", 0, 8, 1UL << 55 },
        { "entry", 0, 8, ulong.MaxValue },
        { "entry", 8, 4, 0 },
        { "entry", 8, 4, uint.MaxValue },
        { "entry", 12, 4, 0xfffffff0 },
        { "entry", 16, 1, 2 },
        { "entry", 17, 1, 0 },
        { "entry", 17, 1, 8 },
        { "entry", 17, 1, 32 },
        { "entry", 17, 1, 255 },
        { "entry", 18, 2, 0 },
        { "entry", 18, 2, 1024 },
        { "entry", 18, 2, ushort.MaxValue },
        { "entry", 20, 4, 1 },
        { "entry", 20, 4, uint.MaxValue },
        { "table", 0, 8, 2 },
        { "table", 0, 8, 513 },
        { "table", 0, 8, 1UL << 63 },
        { "table", 0, 8, 1UL << 55 },
        { "table", 0, 8, 0x00ff_ffff_ffff_fe00 },
    };

    [Theory]
    [MemberData(nameof(Damages))]
    public async Task Open_DamagedBitmap_ServesTheDiskAndNeverTheBitmap(string place, int offset, int width, ulong value)
    {
        var watch = Stopwatch.StartNew();
        (MemoryFile file, long extension, long entry, long table) = await PrepareAsync();
        long at = place switch { "extension" => extension, "extension length" => extension - 4, "entry" => entry, _ => table };
        byte[] bytes = new byte[8];
        BinaryPrimitives.WriteUInt64BigEndian(bytes, value);
        await file.WriteAsync(at + offset, bytes.AsMemory(8 - width));
        long before = await CorruptionsAsync(file);

        Assert.False(await IsReadableAsync(file));
        Qcow2Driver driver = await BitmapImage.OpenAsync(file.Reopen());
        await AssertGuestAsync(driver);
        await TryToUseAsync(driver.Bitmaps!);
        await BitmapImage.WriteGuestAsync(driver, 8192, s_guest);
        await driver.Bitmaps!.PutAsync("b", 9, auto: false, null);
        await driver.Bitmaps.RemoveAsync("b");
        await driver.DisposeAsync();

        driver = await BitmapImage.OpenAsync(file.Reopen());
        await AssertGuestAsync(driver);
        await driver.DisposeAsync();
        CheckReport after = await ConsistencyCheck.RunAsync(file);
        Assert.True(after.Corruptions <= before, after.ToString());
        Assert.True(watch.Elapsed < TimeSpan.FromSeconds(2), watch.Elapsed.ToString());
    }

    [Fact]
    public async Task Load_TwoOfOneName_TakesTheFirstOnly()
    {
        MemoryFile file = BitmapImage.Create();
        Qcow2Driver driver = await BitmapImage.OpenAsync(file.Reopen());
        await driver.Bitmaps!.PutAsync("a", 9, auto: false, null);
        await driver.Bitmaps.PutAsync("b", 9, auto: false, null);
        await driver.DisposeAsync();
        BitmapDirectory directory = await BitmapImage.ListAsync(file);
        await file.WriteAsync(directory.Offset + 32 + 24, "a"u8.ToArray());
        directory = await BitmapImage.ListAsync(file);
        Assert.True(directory.Bitmaps[0].IsConsistent);
        Assert.NotNull(directory.Bitmaps[1].Defect);
    }

    // 65535 entries of the longest names fill the 64 MiB that a directory may have.
    [Fact]
    public async Task Load_LargestDirectory_TakesBoundedTimeAndMemory()
    {
        const int Count = 60000;
        byte[] name = new byte[1000];
        List<StoredBitmap> bitmaps = [];
        for (int i = 0; i < Count; i++)
        {
            byte[] own = i % 100 == 0 ? (byte[])name.Clone() : name;
            BinaryPrimitives.WriteInt32BigEndian(own, i);
            bitmaps.Add(new StoredBitmap { NameBytes = own, GranularityBits = 9, Flags = 0, TableOffset = 512, TableEntries = 1 });
        }

        byte[] directory = BitmapDirectory.Encode(bitmaps);
        (MemoryFile file, long extension, _, _) = await PrepareAsync();
        long offset = Alignment.Up(file.Length, 512);
        await file.WriteAsync(offset, directory);
        await file.WriteAsync(extension, new BitmapsExtension(Count, (ulong)directory.Length, (ulong)offset).ToBytes());
        long memory = GC.GetAllocatedBytesForCurrentThread();
        var watch = Stopwatch.StartNew();
        BitmapDirectory loaded = await BitmapImage.ListAsync(file);
        Assert.Equal(Count, loaded.Bitmaps.Count);
        Assert.True(watch.Elapsed < TimeSpan.FromSeconds(2), watch.Elapsed.ToString());
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - memory, 0, 128 << 20);
    }

    private static async Task<(MemoryFile File, long Extension, long Entry, long Table)> PrepareAsync()
    {
        MemoryFile file = BitmapImage.Create();
        Qcow2Driver driver = await BitmapImage.OpenAsync(file.Reopen());
        await BitmapImage.WriteGuestAsync(driver, 4096, s_guest);
        byte[] bits = new byte[Size / 512 / 8];
        bits[0] = 5;
        await driver.Bitmaps!.PutAsync("b", 9, auto: false, BitmapImage.Source(bits));
        await driver.DisposeAsync();
        byte[] header = file.ToArray()[..512];
        byte[] type = new byte[4];
        BinaryPrimitives.WriteUInt32BigEndian(type, HeaderExtensionType.Bitmaps);
        long extension = header.AsSpan().IndexOf(type) + 8;
        BitmapDirectory directory = await BitmapImage.ListAsync(file);
        return (file, extension, directory.Offset, (long)directory.Bitmaps[0].TableOffset);
    }

    // An extension of another length keeps an image from being checked, as it keeps QEMU from opening it.
    private static async Task<long> CorruptionsAsync(MemoryFile file)
    {
        try
        {
            return (await ConsistencyCheck.RunAsync(file)).Corruptions;
        }
        catch (ImageFormatException)
        {
            return 1;
        }
    }

    private static async Task<bool> IsReadableAsync(MemoryFile file)
    {
        BitmapDirectory directory = await BitmapImage.ListAsync(file);
        if (directory.Bitmaps.Count == 0 || !directory.Bitmaps[0].IsConsistent)
        {
            Assert.True(directory.Problem is not null || directory.Bitmaps[0].Defect is not null);
            return false;
        }

        try
        {
            await BitmapImage.ReadAsync(file, directory.Bitmaps[0]);
            return true;
        }
        catch (BlockIOException)
        {
            return false;
        }
    }

    private static async Task TryToUseAsync(PersistentBitmapStore bitmaps)
    {
        foreach (StoredBitmap bitmap in bitmaps.Bitmaps)
        {
            try
            {
                await bitmaps.OpenReader(bitmap.Name).ReadAsync(0, new byte[16]);
                Assert.Fail("a damaged bitmap was read");
            }
            catch (BlockMountException)
            {
                // As it should be.
            }
        }
    }

    private static async Task AssertGuestAsync(Qcow2Driver driver)
    {
        Mapping mapping = await driver.MapAsync(4096, s_guest.Length, MapPurpose.Transfer);
        byte[] read = new byte[s_guest.Length];
        await mapping.File!.ReadAsync(mapping.FileOffset, read);
        Assert.Equal(s_guest, read);
    }
}
