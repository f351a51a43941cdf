using BlockMount.Formats;
using BlockMount.Formats.Qcow2;
using BlockMount.Formats.Qcow2.OnDisk;
using Xunit;

namespace BlockMount.Tests.Formats.Qcow2;

/// <summary>How the memory of one image is divided, and which sizes are refused.</summary>
public sealed class CacheSizesTests
{
    private const long MiB = 1 << 20;

    // 1 TiB with clusters of 64 KiB: 128 MiB of L2 tables, 32 MiB of refcounts.
    private static readonly Qcow2Header s_header = new()
    {
        Version = 3,
        ClusterBits = 16,
        Size = 1L << 40,
        L1Size = 2048,
        L1TableOffset = 0x30000,
        RefcountTableOffset = 0x10000,
        RefcountTableClusters = 1,
    };

    [Fact]
    public void Needed_CoversTheWholeDisk()
    {
        Assert.InRange(CacheSizes.Needed(s_header, readOnly: true), 128 * MiB, (128 * MiB) + 4096);
        Assert.InRange(CacheSizes.Needed(s_header, readOnly: false), 160 * MiB, (160 * MiB) + 8192);
        Qcow2Header extended = s_header with { IncompatibleFeatures = FeatureBits.ExtendedL2 };
        Assert.InRange(CacheSizes.Needed(extended, readOnly: true), 256 * MiB, (256 * MiB) + 4096);
    }

    [Fact]
    public void TotalAlone_GivesRefcountsAQuarterAtMost()
    {
        CacheSizes sizes = CacheSizes.For(s_header, new Qcow2OpenOptions { CacheBytes = 64 * MiB }, "x");
        Assert.Equal(new CacheSizes(4096, 48 * 256, 16 * 256), sizes);
        // A small disk needs few refcounts, and the tables get the rest.
        CacheSizes small = CacheSizes.For(s_header with { Size = 64 * MiB }, new Qcow2OpenOptions { CacheBytes = 64 * MiB }, "x");
        Assert.True(small.RefcountSlices < 4, $"{small}");
    }

    [Fact]
    public void ReadOnlyImage_GivesRefcountsNothing() =>
        Assert.Equal(new CacheSizes(4096, 64 * 256, 2), CacheSizes.For(s_header, new Qcow2OpenOptions { CacheBytes = 64 * MiB, ReadOnly = true }, "x"));

    [Theory]
    [InlineData(8L, null, 8, 56)]
    [InlineData(null, 8L, 56, 8)]
    [InlineData(8L, 4L, 8, 4)]
    [InlineData(100L, null, 100, 0)]
    public void SizesByName_AreMet_AndTheOtherCacheGetsTheRest(long? l2, long? refcount, int l2MiB, int refcountMiB)
    {
        CacheSizes sizes = CacheSizes.For(
            s_header, new Qcow2OpenOptions { CacheBytes = 64 * MiB, L2CacheBytes = l2 * MiB, RefcountCacheBytes = refcount * MiB }, "x");
        Assert.Equal(l2MiB * 256, sizes.L2Slices);
        Assert.Equal(Math.Max(refcountMiB * 256, 2), sizes.RefcountSlices);
    }

    [Theory]
    [InlineData(512, true)]
    [InlineData(65536, true)]
    [InlineData(256, false)]
    [InlineData(131072, false)]
    [InlineData(3000, false)]
    public void EntrySize_IsAPowerOfTwoFrom512ToTheClusterSize(long bytes, bool good)
    {
        Qcow2OpenOptions options = new() { CacheBytes = MiB, L2CacheEntryBytes = bytes, ReadOnly = true };
        if (good)
        {
            Assert.Equal((int)bytes, CacheSizes.For(s_header, options, "x").L2SliceSize);
            Assert.Equal((int)(MiB / bytes), CacheSizes.For(s_header, options, "x").L2Slices);
        }
        else
        {
            ImageFormatException error = Assert.Throws<ImageFormatException>(() => CacheSizes.For(s_header, options, "x"));
            Assert.Contains("L2 cache entry size must be a power of two between 512 and the cluster size (65536)", error.Message, StringComparison.Ordinal);
        }
    }

    [Theory]
    [InlineData(1L, 1L, 1L, "cache-size, l2-cache-size and refcount-cache-size may not be set at the same time")]
    [InlineData(1L, 2L, null, "l2-cache-size may not exceed cache-size")]
    [InlineData(1L, null, 2L, "refcount-cache-size may not exceed cache-size")]
    [InlineData(2L, 1L, null, null)]
    [InlineData(null, 9L, 9L, null)]
    public void Conflicts_AreThoseOfQemu(long? total, long? l2, long? refcount, string? conflict) =>
        Assert.Equal(conflict, new Qcow2RuntimeOptions { CacheBytes = total, L2CacheBytes = l2, RefcountCacheBytes = refcount }.FindConflict());
}
