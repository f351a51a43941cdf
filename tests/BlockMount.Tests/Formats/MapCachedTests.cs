using BlockMount.Block.Nodes;
using BlockMount.Formats;
using BlockMount.TestSupport;
using BlockMount.TestSupport.Images;
using Xunit;

namespace BlockMount.Tests.Formats;

/// <summary>Looking ahead in an image: the same answers as asking, or none.</summary>
[Trait("Suite", "Random")]
public sealed class MapCachedTests
{
    private const int SizeMax = 96 << 10;

    [Fact]
    public async Task TryMapCached_OnRandomLayers_SaysWhatMapSays_OrNothing()
    {
        int told = 0;
        int untold = 0;
        foreach (int seed in TestBudget.Seeds(7_200_000, 100))
        {
            Random random = new(seed);
            LayeredChain chain = await LayeredChain.CreateAsync(random, 3, SizeMax);
            await using Node top = (await chain.OpenAsync())!;
            for (Node? node = top; node is not null; node = node.Backing)
            {
                FormatDriver driver = ((FormatNode)node).Driver;
                for (int i = 0; i < 200; i++)
                {
                    long offset = random.NextInt64(driver.VirtualSize);
                    long length = random.NextInt64(1, driver.VirtualSize - offset + 1);
                    bool known = driver.TryMapCached(offset, length, out Mapping ahead);
                    Assert.InRange(ahead.Length, 1, length);
                    if (known)
                    {
                        Assert.Equal(await driver.MapAsync(offset, length, MapPurpose.Transfer), ahead);
                        told++;
                    }
                    else
                    {
                        // Loads it, so that the same question has an answer now.
                        Mapping asked = await driver.MapAsync(offset, length, MapPurpose.Transfer);
                        Assert.True(driver.TryMapCached(offset, length, out ahead));
                        Assert.Equal(asked, ahead);
                        untold++;
                    }
                }
            }
        }

        Assert.True(told > 1000 * TestBudget.Scale, $"{told} told");
        Assert.True(untold > 100 * TestBudget.Scale, $"{untold} not told");
    }
}
