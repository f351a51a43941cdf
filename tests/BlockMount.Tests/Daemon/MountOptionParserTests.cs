using BlockMount.Daemon.Cli;
using BlockMount.Storage;
using Xunit;

namespace BlockMount.Tests.Daemon;

/// <summary>Words of -o that choose how the host's files are read and written.</summary>
public sealed class MountOptionParserTests
{
    [Theory]
    [InlineData("ro", IoEngine.Auto)]
    [InlineData("aio=auto", IoEngine.Auto)]
    [InlineData("aio=threads,cache=none", IoEngine.Threads)]
    [InlineData("cache=none,aio=io_uring", IoEngine.IoUring)]
    [InlineData("aio=io_uring,aio=threads", IoEngine.Threads)]
    public void Aio_ChoosesTheEngine(string words, IoEngine engine) =>
        Assert.Equal(engine, MountOptionParser.Parse([words], new MountOptions()).Engine);

    [Theory]
    [InlineData("aio=native", "option 'aio' in -o cannot be 'native'", "aio=io_uring")]
    [InlineData("aio=uring", "option 'aio' in -o cannot be 'uring'", "auto, threads or io_uring")]
    [InlineData("aio", "option 'aio' in -o needs a value", "aio=VALUE")]
    public void Aio_OtherWords_AreRefusedWithAHint(string words, string message, string hint)
    {
        UsageException error = Assert.Throws<UsageException>(() => MountOptionParser.Parse([words], new MountOptions()));
        Assert.Contains(message, error.Message, StringComparison.Ordinal);
        Assert.Contains(hint, error.Hint, StringComparison.Ordinal);
    }
}
