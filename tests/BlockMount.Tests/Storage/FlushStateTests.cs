using BlockMount.Base;
using BlockMount.Base.Interop;
using BlockMount.Storage;
using Xunit;

namespace BlockMount.Tests.Storage;

public sealed class FlushStateTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task Flush_AfterAFailedOne_FailsWithTheSameErrno()
    {
        // fdatasync of a FIFO fails with EINVAL: a failure without a broken disk.
        string path = _folder["fifo"];
        Assert.Equal(0, Mono.Unix.Native.Syscall.mkfifo(path, (Mono.Unix.Native.FilePermissions)0x180));
        using PosixHandle handle = Open(path);
        FlushState flushes = new(handle);
        BlockIOException first = await Assert.ThrowsAsync<BlockIOException>(async () => await flushes.FlushAsync());
        Assert.Equal(Errno.EINVAL, first.Errno);
        BlockIOException second = await Assert.ThrowsAsync<BlockIOException>(async () => await flushes.FlushAsync());
        Assert.Equal(Errno.EINVAL, second.Errno);
        Assert.Contains("an earlier flush has failed", second.Message, StringComparison.Ordinal);
        Assert.NotNull(second.Hint);
    }

    [Fact]
    public async Task Flush_WithNoFlush_NeverReachesTheHost()
    {
        string path = _folder["fifo"];
        Assert.Equal(0, Mono.Unix.Native.Syscall.mkfifo(path, (Mono.Unix.Native.FilePermissions)0x180));
        await using PosixFile file = new(Open(path), new StorageOpenOptions { NoFlush = true }, directAlignment: null, ThreadEngine.Instance);
        await file.FlushAsync();
        await file.FlushAsync();
    }

    private static PosixHandle Open(string path)
    {
        int fd = Libc.open(path, LinuxConstants.O_RDWR | LinuxConstants.O_CLOEXEC, 0);
        Assert.True(fd >= 0);
        return new PosixHandle(fd, fd, path, isBlockDevice: false);
    }
}
