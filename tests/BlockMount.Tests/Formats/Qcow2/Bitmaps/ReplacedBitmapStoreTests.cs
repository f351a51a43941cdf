using BlockMount.Base;
using BlockMount.Formats.Qcow2;
using BlockMount.Formats.Qcow2.Bitmaps;
using BlockMount.Formats.Qcow2.Check;
using BlockMount.Formats.Qcow2.Metadata;
using BlockMount.TestSupport;
using BlockMount.TestSupport.Faults;
using BlockMount.TestSupport.Model;
using Xunit;

namespace BlockMount.Tests.Formats.Qcow2.Bitmaps;

/// <summary>
/// A store that somebody kept while other tables came into force. Its allocator believes in refcounts that are no longer those of the image: what it wrote
/// would overwrite what is in use now.
/// </summary>
public sealed class ReplacedBitmapStoreTests
{
    private const long Size = 64 << 10;
    private const int GranularityBits = BitmapImage.GranularityBits;

    public static TheoryData<string, string> Calls()
    {
        TheoryData<string, string> data = [];
        foreach (string change in new[] { "create", "delete", "apply" })
        {
            foreach (string call in new[] { "put", "add", "clear", "merge", "remove", "auto", "read", "list" })
            {
                // No snapshot is applied while there are bitmaps: these calls would find none.
                if (change != "apply" || call is "put" or "add" or "list")
                {
                    data.Add(change, call);
                }
            }
        }

        return data;
    }

    [Theory]
    [MemberData(nameof(Calls))]
    public async Task KeptStore_AfterTheTablesWereReplaced_SaysSoAndWritesNothing(string change, string call)
    {
        MemoryFile file = change == "apply" ? BitmapImage.Create() : await PersistentBitmapStoreTests.WithTwoAsync();
        Qcow2Driver driver = await BitmapImage.OpenAsync(file.Reopen());
        if (change != "create")
        {
            await driver.Snapshots.CreateAsync("one", SnapshotModel.Moment);
        }

        PersistentBitmapStore kept = driver.Bitmaps!;
        await SwitchAsync(driver, change);
        Assert.NotSame(kept, driver.Bitmaps);
        byte[] before = file.ToArray();
        BlockIOException refusal = await Assert.ThrowsAsync<BlockIOException>(async () => await CallAsync(kept, call));
        Assert.Equal(Errno.ESTALE, refusal.Errno);
        Assert.Contains("its tables were replaced", refusal.Message, StringComparison.Ordinal);
        Assert.Equal(before, file.ToArray());

        // The new one can do all of that.
        await CallAsync(driver.Bitmaps!, call);
        await driver.DisposeAsync();
        await AssertSoundAsync(file);
    }

    // The call came first and waits for the metadata mutex; when it gets it, other tables are in force.
    [Fact]
    public async Task CallThatWaitedForTheSwitch_IsRefusedToo()
    {
        MemoryFile file = await PersistentBitmapStoreTests.WithTwoAsync();
        Qcow2Driver driver = await BitmapImage.OpenAsync(file.Reopen());
        PersistentBitmapStore kept = driver.Bitmaps!;
        Task? waiting = null;
        await driver.SwitchAsync(context =>
        {
            waiting = kept.RemoveAsync("stopped").AsTask();
            Assert.False(waiting.IsCompleted);
            return new ValueTask<HeaderSwitch>(HeaderSwitch.From(context.Header, context.Geometry, context.Size, context.L1, context.Refcounts));
        });
        Assert.Equal(Errno.ESTALE, (await Assert.ThrowsAsync<BlockIOException>(() => waiting!)).Errno);
        await driver.DisposeAsync();
        await AssertSoundAsync(file);
    }

    // Tables that stay in force keep their store.
    [Fact]
    public async Task SwitchThatFailsBeforeTheHeader_LeavesTheStoreInUse()
    {
        MemoryFile file = await PersistentBitmapStoreTests.WithTwoAsync();
        FaultyFile faulty = new(file.Reopen());
        Qcow2Driver driver = await BitmapImage.OpenAsync(faulty);
        PersistentBitmapStore kept = driver.Bitmaps!;
        faulty.SetPlan(new FaultPlan { Calls = StorageCalls.Write, FailFrom = 1 });
        await Assert.ThrowsAsync<BlockIOException>(async () => await driver.Snapshots.CreateAsync("one", SnapshotModel.Moment));
        Assert.Equal(1, faulty.Faults);
        Assert.Same(kept, driver.Bitmaps);
        await CallAsync(kept, "put");
        await driver.DisposeAsync();
        Assert.Contains("new:off:ok", await BitmapImage.DescribeAsync(file), StringComparison.Ordinal);
        await AssertSoundAsync(file);
    }

    // A change of size moves the L1 table, but keeps what the store works through.
    [Theory]
    [InlineData(8 << 20)]
    [InlineData(32 << 10)]
    public async Task Resize_KeepsTheStoreInUse(long newSize)
    {
        MemoryFile file = await PersistentBitmapStoreTests.WithTwoAsync(dataAt: 512);
        Qcow2Driver driver = await BitmapImage.OpenAsync(file.Reopen());
        PersistentBitmapStore kept = driver.Bitmaps!;
        await driver.ResizeAsync(newSize);
        Assert.Same(kept, driver.Bitmaps);
        byte[] bits = BitmapImage.Bits(newSize, seed: 5);
        await kept.PutAsync("new", GranularityBits, auto: false, BitmapImage.Source(bits));
        await driver.DisposeAsync();
        MemoryFile handle = file.Reopen(readOnly: true);
        Assert.Equal(bits, await BitmapImage.ReadAsync(handle, (await BitmapImage.ListAsync(handle)).Bitmaps[2]));
        await AssertSoundAsync(file);
    }

    private static async Task SwitchAsync(Qcow2Driver driver, string change)
    {
        switch (change)
        {
            case "create":
                await driver.Snapshots.CreateAsync("two", SnapshotModel.Moment);
                break;
            case "delete":
                await driver.Snapshots.DeleteAsync("one");
                break;
            default:
                await driver.Snapshots.ApplyAsync("one");
                break;
        }
    }

    private static async ValueTask CallAsync(PersistentBitmapStore store, string call)
    {
        switch (call)
        {
            case "put":
                await store.PutAsync("new", GranularityBits, auto: false, BitmapImage.Source(BitmapImage.Bits(Size, seed: 4)));
                break;
            case "add":
                await store.AddAsync("new", GranularityBits, auto: true);
                break;
            case "clear":
                await store.ClearAsync("stopped");
                break;
            case "merge":
                await store.MergeAsync("stopped", NoBits(), GranularityBits);
                break;
            case "remove":
                await store.RemoveAsync("stopped");
                break;
            case "auto":
                await store.SetAutoAsync("stopped", auto: true);
                break;
            case "read":
                _ = store.OpenReader("stopped");
                break;
            default:
                Assert.NotNull(store.Bitmaps);
                break;
        }
    }

    // A bitmap without a table: all of it reads as zeros.
    private static BitmapReader NoBits() => new(
        new MemoryFile(), 512, new StoredBitmap { NameBytes = default, TableOffset = 0, TableEntries = 0, Flags = 0, GranularityBits = GranularityBits });

    private static async Task AssertSoundAsync(MemoryFile file)
    {
        MemoryFile handle = file.Reopen(readOnly: true);
        BitmapDirectory directory = await BitmapImage.ListAsync(handle);
        Assert.Null(directory.Problem);
        Assert.All(directory.Bitmaps, bitmap => Assert.True(bitmap.IsConsistent, bitmap.Defect));
        CheckReport report = await ConsistencyCheck.RunAsync(handle);
        Assert.True(report.IsClean, report.ToString());
    }
}
