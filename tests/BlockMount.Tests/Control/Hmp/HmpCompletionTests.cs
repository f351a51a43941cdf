using BlockMount.Control.Hmp;
using Xunit;

namespace BlockMount.Tests.Control.Hmp;

/// <summary>Words that could stand where a line ends, for a client that has read the help.</summary>
public sealed class HmpCompletionTests
{
    private const string Help = "help|? [cmd] -- show\ninfo [subcommand] -- show\nquit|q -- end\nblock_resize device size -- resize\nsnapshot_blkdev [-n] device file -- go on\n";
    private const string Info = "info block [-n] [-v] [device] -- show\ninfo blockstats -- show\n";

    [Theory]
    [InlineData("", "?|block_resize|help|info|q|quit|snapshot_blkdev")]
    [InlineData("bl", "block_resize")]
    [InlineData("help s", "snapshot_blkdev")]
    [InlineData("info b", "block|blockstats")]
    [InlineData("help info blocks", "blockstats")]
    [InlineData("info block d", "disk1|drive0")]
    [InlineData("info block -v dr", "drive0")]
    [InlineData("block_resize ", "disk1|drive0")]
    [InlineData("snapshot_blkdev -n dr", "drive0")]
    [InlineData("block_resize drive0 ", "")]
    [InlineData("quit ", "")]
    [InlineData("info blockstats ", "")]
    [InlineData("nope ", "")]
    public void OffersWhatFits(string text, string words) =>
        Assert.Equal(words, string.Join('|', HmpCompletion.Complete(text, HmpCompletion.ReadHelp(Help), HmpCompletion.ReadHelp(Info, "info "), ["drive0", "disk1"])));
}
