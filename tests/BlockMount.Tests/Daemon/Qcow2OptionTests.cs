using BlockMount.Daemon.Cli;
using BlockMount.Formats.Qcow2;
using BlockMount.Formats.Qcow2.Metadata;
using Xunit;

namespace BlockMount.Tests.Daemon;

/// <summary>The qcow2 driver's run-time options as words of -o.</summary>
public sealed class Qcow2OptionTests
{
    [Fact]
    public void Words_AreReadIntoTheirPlaces()
    {
        Qcow2RuntimeOptions options = Parse(
            "l2-cache-size=4M,l2-cache-entry-size=8k,refcount-cache-size=512k,cache-clean-interval=60,lazy-refcounts=on",
            "pass-discard-request=off,pass-discard-snapshot=off,pass-discard-other,discard-no-unref=on,overlap-check=all");
        Assert.Equal(
            new Qcow2RuntimeOptions
            {
                L2CacheBytes = 4 << 20,
                L2CacheEntryBytes = 8192,
                RefcountCacheBytes = 512 << 10,
                CacheCleanInterval = TimeSpan.FromSeconds(60),
                LazyRefcounts = true,
                PassDiscardRequest = false,
                PassDiscardSnapshot = false,
                PassDiscardOther = true,
                DiscardNoUnref = true,
                OverlapTemplate = MetadataKinds.All,
            },
            options);
        Assert.Equal(new Qcow2RuntimeOptions(), Parse("ro,uid=3"));
        Assert.Equal(1 << 20, Parse("cache-size=1M").CacheBytes);
    }

    [Theory]
    [InlineData("ro", MetadataKinds.Cached)]
    [InlineData("overlap-check=none", MetadataKinds.None)]
    [InlineData("overlap-check.template=constant", MetadataKinds.Constant)]
    [InlineData("overlap-check=all,overlap-check.template=cached", MetadataKinds.Cached)]
    [InlineData("overlap-check.inactive-l2=on", MetadataKinds.All)]
    [InlineData("overlap-check.active-l2=off,overlap-check=all", MetadataKinds.All & ~MetadataKinds.ActiveL2)]
    [InlineData("overlap-check=none,overlap-check.main-header,overlap-check.bitmap-directory=on", MetadataKinds.MainHeader | MetadataKinds.BitmapDirectory)]
    [InlineData("overlap-check.active-l1=off,overlap-check.active-l1=on", MetadataKinds.Cached)]
    public void OverlapCheck_SinglePartsBeatTheTemplate(string words, MetadataKinds kinds) => Assert.Equal(kinds, Parse(words).OverlapCheck);

    [Theory]
    [InlineData("l2-cache-size=4X", "option 'l2-cache-size' in -o cannot be '4X'")]
    [InlineData("l2-cache-size", "option 'l2-cache-size' in -o needs a value")]
    [InlineData("lazy-refcounts=maybe", "option 'lazy-refcounts' in -o cannot be 'maybe'")]
    [InlineData("cache-clean-interval=4000001", "option 'cache-clean-interval' in -o cannot be '4000001'")]
    [InlineData("cache-clean-interval=-1", "option 'cache-clean-interval' in -o cannot be '-1'")]
    [InlineData("overlap-check=most", "option 'overlap-check' in -o cannot be 'most'")]
    [InlineData("overlap-check.header=on", "unknown option 'overlap-check.header' in -o")]
    [InlineData("cache-size=1M,l2-cache-size=512k,refcount-cache-size=512k", "may not be set at the same time")]
    [InlineData("cache-size=1M,l2-cache-size=2M", "l2-cache-size may not exceed cache-size")]
    [InlineData("l2-cache-entry-size=1000", "l2-cache-entry-size must be a power of two")]
    public void WrongWords_AreRefusedByName(string words, string message)
    {
        UsageException error = Assert.Throws<UsageException>(() => Parse(words));
        Assert.Contains(message, error.Message, StringComparison.Ordinal);
        Assert.False(string.IsNullOrEmpty(error.Hint));
    }

    private static Qcow2RuntimeOptions Parse(params string[] words) => MountOptionParser.Parse(words, new MountOptions()).Qcow2;
}
