using BlockMount.Block.Graph;
using BlockMount.Formats.Qcow2;
using BlockMount.Formats.Qcow2.OnDisk;
using BlockMount.TestSupport;
using Xunit;

namespace BlockMount.Tests.Block;

/// <summary>The memory of one device, divided between the index and the caches of its images.</summary>
public sealed class MetadataBudgetTests
{
    private const long MiB = 1 << 20;
    private const long TiB = 1L << 40;

    [Fact]
    public async Task OneImage_HasNoIndex()
    {
        MetadataBudget budget = MetadataBudget.Divide([await LinkAsync(TiB)], new ChainOpenOptions());
        Assert.Equal(0, budget.IndexBytes);
        Assert.Equal([64 * MiB], budget.CacheBytes);
    }

    [Fact]
    public async Task SixtyFourLargeImages_StayWithinTheBudget_AndTheActiveLayerGetsItsHalf()
    {
        ChainLink link = await LinkAsync(TiB);
        MetadataBudget budget = MetadataBudget.Divide([.. Enumerable.Repeat(link, 64)], new ChainOpenOptions());
        Assert.Equal(32 * MiB, budget.IndexBytes);
        Assert.InRange(budget.CacheBytes[0], 16 * MiB, 17 * MiB);
        Assert.InRange(budget.IndexBytes + budget.CacheBytes.Sum(), 63 * MiB, 64 * MiB);
        // Some dozens of slices each: what several requests at a time need to look further down.
        Assert.All(budget.CacheBytes.Skip(1), bytes => Assert.InRange(bytes, MiB / 8, MiB / 2));
    }

    [Fact]
    public async Task SmallDisks_TakeWhatTheyNeed()
    {
        ChainLink link = await LinkAsync(1 << 30);
        MetadataBudget budget = MetadataBudget.Divide([link, link], new ChainOpenOptions());
        Assert.InRange(budget.IndexBytes, (1 << 14) * 12, MiB);
        Assert.Equal(CacheSizes.Needed(link.Header!, readOnly: false), budget.CacheBytes[0]);
        Assert.Equal(CacheSizes.Needed(link.Header!, readOnly: true), budget.CacheBytes[1]);
    }

    [Fact]
    public async Task CacheSize_IsTheWholeBudget()
    {
        ChainLink link = await LinkAsync(TiB);
        MetadataBudget budget = MetadataBudget.Divide([link, link, link], new ChainOpenOptions { Qcow2 = new Qcow2RuntimeOptions { CacheBytes = 8 * MiB } });
        Assert.Equal(4 * MiB, budget.IndexBytes);
        Assert.Equal([2 * MiB, MiB, MiB], budget.CacheBytes);
    }

    [Fact]
    public async Task SizesGivenForTheActiveLayer_Count_AndTheRestStillWorks()
    {
        ChainLink link = await LinkAsync(TiB);
        Qcow2RuntimeOptions asked = new() { L2CacheBytes = 100 * MiB, RefcountCacheBytes = 4 * MiB };
        MetadataBudget budget = MetadataBudget.Divide([link, link], new ChainOpenOptions { Qcow2 = asked });
        Assert.Equal([104 * MiB, 8 * MiB], budget.CacheBytes);
        Assert.Equal(8 * MiB, budget.IndexBytes);
    }

    private static async Task<ChainLink> LinkAsync(long size)
    {
        MemoryFile file = new("image");
        await Qcow2Create.CreateAsync(file, new Qcow2CreateOptions { Size = size });
        return new ChainLink("image", "qcow2", file, await Qcow2HeaderReader.LoadAsync(file));
    }
}
