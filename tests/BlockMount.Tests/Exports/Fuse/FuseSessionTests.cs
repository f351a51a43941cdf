using BlockMount.Base;
using BlockMount.Exports.Fuse;
using BlockMount.Exports.Fuse.Abi;
using BlockMount.TestSupport.Faults;
using Microsoft.Extensions.Logging.Abstractions;
using Xunit;

namespace BlockMount.Tests.Exports.Fuse;

/// <summary>Workers and their requests: waiting ones do not hold up others, and the end waits for them.</summary>
public sealed class FuseSessionTests
{
    private static readonly TimeSpan s_limit = TimeSpan.FromSeconds(20);

    [Fact]
    public async Task Request_Waits_OthersAreServedMeanwhile()
    {
        GatedFile file = new();
        using FuseFixture disk = new(file: file);
        FakeFuseChannel channel = new();
        FuseSession session = Start(disk, channel);

        channel.Request(Read(unique: 1));
        channel.Request(Read(unique: 2));
        channel.Request(FuseFrames.Build(FuseOpcode.FUSE_GETATTR, unique: 3));
        Assert.Equal(3ul, FuseFrames.Header(channel.TakeReply()).unique);
        Assert.Equal(0, channel.PendingReplies);

        file.Open(new byte[] { 42 });
        ulong[] answered = [FuseFrames.Header(channel.TakeReply()).unique, FuseFrames.Header(channel.TakeReply()).unique];
        Assert.Equal([1ul, 2ul], answered.Order());

        channel.Unmount();
        await session.Completion.WaitAsync(s_limit);
        Assert.True(channel.Closed);
    }

    [Fact]
    public async Task Unmount_RequestWaits_SessionEndsAfterItsReply()
    {
        GatedFile file = new();
        using FuseFixture disk = new(file: file);
        FakeFuseChannel channel = new();
        FuseSession session = Start(disk, channel);
        channel.Request(Read(unique: 1));
        await file.Asked.WaitAsync(s_limit);
        channel.Unmount();

        await Task.Delay(100);
        Assert.False(session.Completion.IsCompleted);
        Assert.False(channel.Closed);

        file.Open(new byte[] { 42 });
        Assert.Equal(42, channel.TakeReply()[16]);
        await session.Completion.WaitAsync(s_limit);
    }

    [Fact]
    public async Task Stop_IdleWorkers_End()
    {
        using FuseFixture disk = new();
        FakeFuseChannel first = new();
        FakeFuseChannel second = new();
        FuseSession session = Start(disk, first, second);

        await session.StopAsync().WaitAsync(s_limit);
        Assert.True(first.Closed);
        Assert.True(second.Closed);
    }

    [Fact]
    public async Task Request_FailsAfterWaiting_IsAnsweredWithItsErrno()
    {
        GatedFile file = new();
        using FuseFixture disk = new(file: file);
        FakeFuseChannel channel = new();
        FuseSession session = Start(disk, channel);
        channel.Request(Read(unique: 1));
        await file.Asked.WaitAsync(s_limit);

        file.Fail(new BlockIOException(Errno.ENOSPC, "test"));
        Assert.Equal(-(int)Errno.ENOSPC, FuseFrames.Header(channel.TakeReply()).error);
        await session.StopAsync().WaitAsync(s_limit);
    }

    private static FuseSession Start(FuseFixture disk, params FuseChannel[] channels)
    {
        FuseSession session = new("test", channels, disk.Dispatcher, NullLogger.Instance);
        session.Start();
        return session;
    }

    private static byte[] Read(ulong unique) => FuseFrames.Build(FuseOpcode.FUSE_READ, new fuse_read_in { size = 1 }, unique: unique);
}
