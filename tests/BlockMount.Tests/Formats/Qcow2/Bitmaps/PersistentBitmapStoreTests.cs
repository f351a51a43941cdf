using BlockMount.Formats;
using BlockMount.Formats.Qcow2;
using BlockMount.Formats.Qcow2.Bitmaps;
using BlockMount.Formats.Qcow2.Check;
using BlockMount.Formats.Qcow2.OnDisk;
using BlockMount.TestSupport;
using BlockMount.TestSupport.Faults;
using Xunit;

namespace BlockMount.Tests.Formats.Qcow2.Bitmaps;

/// <summary>Bitmaps in and out of an image, their life cycle, and failures at every call.</summary>
public sealed class PersistentBitmapStoreTests
{
    private const long Size = 64 << 10;
    private const int GranularityBits = BitmapImage.GranularityBits;

    [Theory]
    [InlineData(9, 64 << 10)]
    [InlineData(9, (4 << 20) - 512)]
    [InlineData(12, 0)]
    [InlineData(16, 100 << 20)]
    public async Task Put_Bits_ComeBackAfterReopening(int clusterBits, long size)
    {
        MemoryFile file = BitmapImage.Create(clusterBits, size);
        byte[] first = BitmapImage.Bits(size, seed: 1);
        byte[] second = BitmapImage.Bits(size, seed: 2);
        Qcow2Driver driver = await BitmapImage.OpenAsync(file.Reopen());
        await driver.Bitmaps!.PutAsync("first", GranularityBits, auto: false, BitmapImage.Source(first));
        await driver.Bitmaps.PutAsync("zeros", 16, auto: true, null);
        await driver.Bitmaps.PutAsync("ones", GranularityBits, auto: false, (_, bytes) => Fill(bytes));
        await driver.Bitmaps.PutAsync("first", GranularityBits, auto: true, BitmapImage.Source(second));
        await driver.DisposeAsync();

        MemoryFile handle = file.Reopen(readOnly: true);
        BitmapDirectory directory = await BitmapImage.ListAsync(handle);
        Assert.Null(directory.Problem);
        Assert.Equal(["first", "zeros", "ones"], directory.Bitmaps.Select(bitmap => bitmap.Name));
        Assert.All(directory.Bitmaps, bitmap => Assert.True(bitmap.IsConsistent, bitmap.Defect));
        Assert.Equal(second, await BitmapImage.ReadAsync(handle, directory.Bitmaps[0]));
        Assert.DoesNotContain(await BitmapImage.ReadAsync(handle, directory.Bitmaps[1]), b => b != 0);
        byte[] ones = new byte[first.Length];
        ones.AsSpan().Fill(0xff);
        BitmapImage.Trim(ones, StoredBitmap.BitsFor(size, GranularityBits));
        Assert.Equal(ones, await BitmapImage.ReadAsync(handle, directory.Bitmaps[2]));
        CheckReport report = await ConsistencyCheck.RunAsync(handle);
        // The test's own image of an empty disk has a cluster for an L1 table without entries.
        Assert.True(report.Corruptions == 0 && report.Leaks == (size == 0 ? 1 : 0), report.ToString());
    }

    [Fact]
    public async Task Open_ForWriting_MarksEveryBitmapInUseAtOnce()
    {
        MemoryFile file = await WithTwoAsync();
        Qcow2Driver driver = await BitmapImage.OpenAsync(file.Reopen());
        Assert.Equal("recording:auto:in-use:-1 stopped:off:in-use:-1", await BitmapImage.DescribeAsync(file));
        await driver.DisposeAsync();
        Assert.StartsWith("recording:auto:ok:", await BitmapImage.DescribeAsync(file), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Open_AfterACrash_FindsThemInconsistentForGood()
    {
        MemoryFile file = await WithTwoAsync();
        await BitmapImage.OpenAsync(file.Reopen());
        // Not closed: the process died.
        Qcow2Driver driver = await BitmapImage.OpenAsync(file.Reopen());
        Assert.All(driver.Bitmaps!.Bitmaps, bitmap => Assert.True(bitmap.IsInUse));
        Assert.Throws<ImageFormatException>(() => driver.Bitmaps.OpenReader("stopped"));
        await Assert.ThrowsAsync<ImageFormatException>(async () => await driver.Bitmaps.SetAutoAsync("stopped", true));
        await driver.DisposeAsync();
        Assert.Equal("recording:auto:in-use:-1 stopped:off:in-use:-1", await BitmapImage.DescribeAsync(file));
    }

    [Theory]
    [InlineData("write")]
    [InlineData("in place")]
    [InlineData("zero")]
    [InlineData("discard")]
    public async Task Close_AfterGuestChanges_LeavesWhatRecordedInUse(string change)
    {
        MemoryFile file = await WithTwoAsync(dataAt: 512);
        Qcow2Driver driver = await BitmapImage.OpenAsync(file.Reopen());
        await ChangeAsync(driver, change);
        await driver.DisposeAsync();
        string left = await BitmapImage.DescribeAsync(file);
        Assert.Matches("^recording:auto:in-use:-1 stopped:off:ok:[0-9]+$", left);
    }

    [Fact]
    public async Task Close_BitmapGivenBackAfterTheLastWrite_IsValid()
    {
        MemoryFile file = await WithTwoAsync();
        Qcow2Driver driver = await BitmapImage.OpenAsync(file.Reopen());
        await ChangeAsync(driver, "write");
        byte[] bits = BitmapImage.Bits(Size, seed: 9);
        await driver.Bitmaps!.PutAsync("recording", GranularityBits, auto: true, BitmapImage.Source(bits));
        await driver.DisposeAsync();
        MemoryFile handle = file.Reopen(readOnly: true);
        StoredBitmap stored = (await BitmapImage.ListAsync(handle)).Bitmaps[0];
        Assert.True(stored.IsConsistent);
        Assert.Equal(bits, await BitmapImage.ReadAsync(handle, stored));
    }

    [Fact]
    public async Task Remove_Last_DropsTheExtensionAndFreesEverything()
    {
        MemoryFile file = await WithTwoAsync();
        Qcow2Driver driver = await BitmapImage.OpenAsync(file.Reopen());
        await driver.Bitmaps!.RemoveAsync("recording");
        await driver.Bitmaps.RemoveAsync("stopped");
        await Assert.ThrowsAsync<ImageFormatException>(async () => await driver.Bitmaps.RemoveAsync("stopped"));
        await driver.DisposeAsync();
        Qcow2Header header = await Qcow2HeaderReader.LoadAsync(file);
        Assert.Null(header.FindExtension(HeaderExtensionType.Bitmaps));
        Assert.Equal(0UL, header.AutoclearFeatures);
        Assert.True((await ConsistencyCheck.RunAsync(file)).IsClean);
    }

    [Theory]
    [InlineData(40 << 10)]
    [InlineData((40 << 10) + 512)]
    [InlineData(64 << 10)]
    [InlineData(8 << 20)]
    public async Task Resize_There_KeepsTheCommonBitsAndClearsTheRest(long newSize)
    {
        MemoryFile file = BitmapImage.Create();
        byte[] ones = new byte[StoredBitmap.BytesFor(Size, GranularityBits)];
        ones.AsSpan().Fill(0xff);
        Qcow2Driver driver = await BitmapImage.OpenAsync(file.Reopen());
        await driver.Bitmaps!.PutAsync("b", GranularityBits, auto: false, BitmapImage.Source(ones));
        await driver.ResizeAsync(newSize);
        await driver.ResizeAsync(1 << 20);
        await driver.DisposeAsync();
        MemoryFile handle = file.Reopen(readOnly: true);
        StoredBitmap stored = (await BitmapImage.ListAsync(handle)).Bitmaps[0];
        Assert.True(stored.IsConsistent);
        byte[] expected = new byte[StoredBitmap.BytesFor(1 << 20, GranularityBits)];
        expected.AsSpan(0, ones.Length).Fill(0xff);
        long kept = StoredBitmap.BitsFor(Math.Min(newSize, Size), GranularityBits);
        expected.AsSpan((int)((kept + 7) / 8)).Clear();
        BitmapImage.Trim(expected, kept);
        Assert.Equal(expected, await BitmapImage.ReadAsync(handle, stored));
        Assert.True((await ConsistencyCheck.RunAsync(handle)).IsClean);
    }

    // F53: another program wrote to the image and cleared the bit.
    [Fact]
    public async Task Open_ExtensionWithoutTheAutoclearBit_LosesTheBitmapsAndDropsTheExtensionLater()
    {
        MemoryFile file = await WithTwoAsync();
        await file.WriteAsync(Qcow2HeaderFields.AutoclearFeatures, new byte[8]);
        Assert.NotNull((await BitmapImage.ListAsync(file)).Problem);
        Qcow2Driver driver = await BitmapImage.OpenAsync(file.Reopen());
        Assert.NotNull(driver.Bitmaps!.Problem);
        Assert.Empty(driver.Bitmaps.Bitmaps);
        await driver.SetBackingReferenceAsync(new BackingReference("base", "raw"));
        await driver.DisposeAsync();
        Assert.Null((await Qcow2HeaderReader.LoadAsync(file)).FindExtension(HeaderExtensionType.Bitmaps));
    }

    [Fact]
    public async Task Put_WhatCannotBeStored_IsRefusedAndChangesNothing()
    {
        MemoryFile file = await WithTwoAsync();
        byte[] before = file.ToArray();
        Qcow2Driver driver = await BitmapImage.OpenAsync(file.Reopen());
        await Assert.ThrowsAsync<ImageFormatException>(async () => await driver.Bitmaps!.PutAsync("", GranularityBits, false, null));
        await Assert.ThrowsAsync<ImageFormatException>(async () => await driver.Bitmaps!.PutAsync(new string('x', 1024), GranularityBits, false, null));
        await Assert.ThrowsAsync<ImageFormatException>(async () => await driver.Bitmaps!.PutAsync("x", 8, false, null));
        await Assert.ThrowsAsync<ImageFormatException>(async () => await driver.Bitmaps!.PutAsync("x", 32, false, null));
        await driver.DisposeAsync();
        Assert.Equal(before, file.ToArray());
    }

    [Fact]
    public async Task Put_LongestName_ComesBack()
    {
        MemoryFile file = await WithTwoAsync();
        Qcow2Driver driver = await BitmapImage.OpenAsync(file.Reopen());
        string name = new('ö', 511);
        await driver.Bitmaps!.PutAsync(name + "x", 31, auto: false, null);
        await driver.DisposeAsync();
        Assert.Equal(name + "x", (await BitmapImage.ListAsync(file)).Bitmaps[2].Name);
    }

    [Theory]
    [InlineData("put")]
    [InlineData("replace")]
    [InlineData("remove")]
    [InlineData("auto")]
    [InlineData("resize")]
    [InlineData("shrink")]
    [InlineData("backing")]
    public async Task Change_EveryCallFails_LeavesValidBitmapsRightAndTheImageSound(string change)
    {
        byte[] prepared = (await WithTwoAsync(dataAt: 512)).ToArray();
        byte[] old = BitmapImage.Bits(Size, seed: 3);
        foreach (bool forever in new[] { false, true })
        {
            for (int call = 1; ; call++)
            {
                MemoryFile file = new("top", readOnly: false, prepared);
                FaultyFile faulty = new(file.Reopen(), new FaultPlan { FailFrom = call, Forever = forever, ShortTransfer = call % 2 == 0 });
                bool failed = await FailsAsync(faulty, change);
                await JudgeAsync(file, old, $"{change}, call {call}");
                if (!failed && faulty.Faults == 0)
                {
                    break;
                }
            }
        }
    }

    private static async Task JudgeAsync(MemoryFile file, byte[] old, string what)
    {
        MemoryFile handle = file.Reopen(readOnly: true);
        CheckReport report = await ConsistencyCheck.RunAsync(handle);
        Assert.True(report.Corruptions == 0, $"{what}: {report}");
        BitmapDirectory directory = await BitmapImage.ListAsync(handle);
        Assert.True(directory.Problem is null, $"{what}: {directory.Problem}");
        Assert.All(directory.Bitmaps, bitmap => Assert.True(bitmap.Defect is null, $"{what}: {bitmap.Defect}"));
        foreach (StoredBitmap bitmap in directory.Bitmaps.Where(bitmap => bitmap.IsConsistent))
        {
            byte[] bits = await BitmapImage.ReadAsync(handle, bitmap);
            byte[] expected = new byte[bits.Length];
            byte[] source = bitmap.Name == "stopped" && bits.AsSpan().IndexOfAnyExcept((byte)0xff) >= 0 ? old : bits;
            source.AsSpan(0, Math.Min(source.Length, expected.Length)).CopyTo(expected);
            Assert.Equal(expected, bits);
        }
    }

    private static async Task<bool> FailsAsync(FaultyFile file, string change)
    {
        Qcow2Driver driver;
        try
        {
            driver = await BitmapImage.OpenAsync(file);
        }
        catch (BlockMount.Base.BlockMountException)
        {
            await CloseAsync(file);
            return true;
        }

        bool failed = false;
        try
        {
            await ChangeAsync(driver, change);
        }
        catch (BlockMount.Base.BlockMountException)
        {
            failed = true;
        }

        try
        {
            await driver.DisposeAsync();
        }
        catch (BlockMount.Base.BlockMountException)
        {
            failed = true;
        }

        return failed;
    }

    private static async Task CloseAsync(FaultyFile file)
    {
        try
        {
            await file.DisposeAsync();
        }
        catch (BlockMount.Base.BlockMountException)
        {
            // The injected failure of the close itself.
        }
    }

    internal static async Task ChangeAsync(Qcow2Driver driver, string change)
    {
        PersistentBitmapStore bitmaps = driver.Bitmaps!;
        switch (change)
        {
            case "put":
                await bitmaps.PutAsync("new", GranularityBits, auto: true, BitmapImage.Source(BitmapImage.Bits(Size, seed: 4)));
                break;
            case "replace":
                await bitmaps.PutAsync("stopped", GranularityBits, auto: false, (_, bytes) => Fill(bytes));
                break;
            case "remove":
                await bitmaps.RemoveAsync("stopped");
                break;
            case "auto":
                await bitmaps.SetAutoAsync("stopped", true);
                break;
            case "resize":
                await driver.ResizeAsync(128 << 10);
                break;
            case "shrink":
                await driver.ResizeAsync(20 << 10);
                break;
            case "backing":
                await driver.SetBackingReferenceAsync(new BackingReference("../base.raw", "raw"));
                break;
            case "write":
                await BitmapImage.WriteGuestAsync(driver, 4096, new byte[512]);
                break;
            case "in place":
                await BitmapImage.WriteGuestAsync(driver, 512, [1, 2, 3]);
                break;
            case "zero":
                await driver.ZeroAsync(512, 512, ZeroFlags.MayUnmap);
                break;
            default:
                await driver.DiscardAsync(512, 512);
                break;
        }
    }

    /// <summary>An image with a bitmap that records and one that does not (bits of seed 3), cleanly closed.</summary>
    internal static async Task<MemoryFile> WithTwoAsync(long dataAt = -1)
    {
        MemoryFile file = BitmapImage.Create();
        Qcow2Driver driver = await BitmapImage.OpenAsync(file.Reopen());
        if (dataAt >= 0)
        {
            await BitmapImage.WriteGuestAsync(driver, dataAt, new byte[512]);
        }

        await driver.Bitmaps!.PutAsync("recording", GranularityBits, auto: true, BitmapImage.Source(BitmapImage.Bits(Size, seed: 2)));
        await driver.Bitmaps.PutAsync("stopped", GranularityBits, auto: false, BitmapImage.Source(BitmapImage.Bits(Size, seed: 3)));
        await driver.DisposeAsync();
        return file;
    }

    private static ValueTask Fill(Memory<byte> bytes)
    {
        bytes.Span.Fill(0xff);
        return ValueTask.CompletedTask;
    }
}
