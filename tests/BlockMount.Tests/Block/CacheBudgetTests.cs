using BlockMount.Block.Graph;
using Xunit;

namespace BlockMount.Tests.Block;

/// <summary>One amount of memory for all images of a chain.</summary>
public sealed class CacheBudgetTests
{
    private const long MiB = 1 << 20;

    [Fact]
    public void SmallNeeds_AreMet_AndNothingIsGivenBeyondThem() =>
        Assert.Equal([3, 5, 0], CacheBudget.Share([3, 5, 0], 1000));

    [Fact]
    public void WhatSmallImagesLeave_GoesToTheActiveLayerFirst() =>
        // An equal share is 16: the second leaves 14.
        Assert.Equal([30, 2, 16, 16], CacheBudget.Share([1000, 2, 1000, 1000], 64));

    [Fact]
    public void WhatTheActiveLayerDoesNotNeed_GoesFurtherDown() =>
        Assert.Equal([20, 2, 26, 16], CacheBudget.Share([20, 2, 1000, 1000], 64));

    [Fact]
    public void ChainOf64_LargeDisks_ShareTheBudgetEvenly()
    {
        // 1 TiB each: 128 MiB of L2 tables.
        long[] shares = CacheBudget.Share([.. Enumerable.Repeat(128 * MiB, 64)], 64 * MiB);
        Assert.All(shares, share => Assert.Equal(MiB, share));
    }

    [Fact]
    public void ChainOf64_SmallOverlaysOnALargeBase_LeaveTheRestToThoseThatNeedIt()
    {
        long[] needed = [160 * MiB, .. Enumerable.Repeat(MiB / 8, 62), 128 * MiB];
        long[] shares = CacheBudget.Share(needed, 64 * MiB);
        Assert.All(shares[1..63], share => Assert.Equal(MiB / 8, share));
        Assert.Equal(MiB, shares[63]);
        Assert.Equal(64 * MiB, shares.Sum());
    }

    [Fact]
    public void AnyChain_NeverExceedsTheBudget_AndWastesNothingThatIsNeeded()
    {
        Random random = new(5);
        for (int i = 0; i < 1000; i++)
        {
            long[] needed = [.. Enumerable.Range(0, random.Next(1, 65)).Select(_ => random.NextInt64(1000))];
            long total = random.NextInt64(20_000);
            long[] shares = CacheBudget.Share(needed, total);
            Assert.Equal(Math.Min(total, needed.Sum()), shares.Sum());
            for (int k = 0; k < needed.Length; k++)
            {
                Assert.InRange(shares[k], Math.Min(needed[k], total / needed.Length), needed[k]);
            }
        }
    }
}
