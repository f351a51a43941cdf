using System.Buffers.Binary;
using BlockMount.Base;
using BlockMount.Exports.Fuse.Abi;
using BlockMount.Storage;
using BlockMount.TestSupport;
using BlockMount.TestSupport.Faults;
using Microsoft.Extensions.Logging;
using Xunit;

namespace BlockMount.Tests.Exports.Fuse;

/// <summary>What is answered to frames of every kind, malformed ones included.</summary>
public sealed class FuseDispatcherTests
{
    [Theory]
    [InlineData((uint)FuseOpcode.FUSE_LOOKUP, Errno.ENOENT)]
    [InlineData((uint)FuseOpcode.FUSE_GETXATTR, Errno.ENOSYS)]
    [InlineData(39u, Errno.ENOSYS)]
    [InlineData(0xdeadbeef, Errno.ENOSYS)]
    [InlineData((uint)FuseOpcode.FUSE_INTERRUPT, Errno.ENOSYS)]
    [InlineData((uint)FuseOpcode.FUSE_DESTROY, Errno.None)]
    [InlineData((uint)FuseOpcode.FUSE_RELEASE, Errno.None)]
    [InlineData((uint)FuseOpcode.FUSE_STATFS, Errno.None)]
    public void Frame_OfKind_IsAnswered(uint opcode, Errno expected)
    {
        using FuseFixture disk = new();
        fuse_out_header header = FuseFrames.Header(disk.Ask(FuseFrames.Build((FuseOpcode)opcode, 0x1234_5678_9abc_def0ul, unique: 99)));
        Assert.Equal((-(int)expected, 99ul), (header.error, header.unique));
    }

    [Theory]
    [InlineData((uint)FuseOpcode.FUSE_FORGET)]
    [InlineData((uint)FuseOpcode.FUSE_BATCH_FORGET)]
    public void Forget_GetsNoReply(uint opcode)
    {
        using FuseFixture disk = new();
        Assert.Empty(disk.Ask(FuseFrames.Build((FuseOpcode)opcode, 1ul)));
        Assert.Empty(disk.Ask(FuseFrames.Build((FuseOpcode)opcode)));
    }

    [Fact]
    public void Frame_ForAnotherInode_IsEnoent()
    {
        using FuseFixture disk = new();
        byte[] reply = disk.Ask(FuseFrames.Build(FuseOpcode.FUSE_READ, new fuse_read_in { size = 1 }, node: 2));
        Assert.Equal(-(int)Errno.ENOENT, FuseFrames.Header(reply).error);
    }

    [Theory]
    [InlineData((uint)FuseOpcode.FUSE_READ)]
    [InlineData((uint)FuseOpcode.FUSE_WRITE)]
    [InlineData((uint)FuseOpcode.FUSE_OPEN)]
    [InlineData((uint)FuseOpcode.FUSE_SETATTR)]
    [InlineData((uint)FuseOpcode.FUSE_FALLOCATE)]
    [InlineData((uint)FuseOpcode.FUSE_LSEEK)]
    public void Frame_ArgumentCutShort_IsEinval(uint opcode)
    {
        using FuseFixture disk = new();
        Assert.Equal(Errno.EINVAL, disk.AskError((FuseOpcode)opcode, 0u));
    }

    [Fact]
    public void Frame_LengthLies_IsDropped()
    {
        using FuseFixture disk = new();
        byte[] frame = FuseFrames.Build(FuseOpcode.FUSE_GETATTR);
        BinaryPrimitives.WriteUInt32LittleEndian(frame, 4096);
        Assert.Empty(disk.Ask(frame));
        Assert.Empty(disk.Ask(frame[..39]));
        Assert.Empty(disk.Ask([]));
    }

    [Fact]
    public void Frames_Random_NeverBreakTheServer()
    {
        Random random = new(20240229);
        uint[] opcodes = [1, 2, 3, 4, 14, 15, 16, 17, 18, 20, 22, 25, 26, 36, 38, 42, 43, 46, 52, 4096];
        using FuseFixture disk = new(growable: false);
        for (int i = 0; i < 50_000; i++)
        {
            byte[] frame = new byte[random.Next(0, 200)];
            random.NextBytes(frame);
            Disguise(random, frame, opcodes);
            byte[] reply = disk.Ask(frame);
            Assert.True(reply.Length == 0 || reply.Length == FuseFrames.Header(reply).len, $"round {i}");
            Assert.True(reply.Length == 0 || FuseFrames.Header(reply).error is <= 0 and > -512, $"round {i}");
        }
    }

    [Fact]
    public void Device_Fails_ErrnoReachesTheClient()
    {
        using FuseFixture disk = new(file: new FailingFile(new BlockIOException(Errno.ENOSPC, "test")));
        Assert.Equal(Errno.ENOSPC, disk.AskError(FuseOpcode.FUSE_READ, new fuse_read_in { size = 1 }));
        Assert.Equal(Errno.ENOSPC, disk.AskError(FuseOpcode.FUSE_WRITE, new fuse_write_in { size = 1 }, [1]));
    }

    [Fact]
    public void Device_FailsUnexpectedly_IsEioAndLoggedOnce()
    {
        CountingLogger logger = new();
        using FuseFixture disk = new(file: new FailingFile(new InvalidOperationException("a bug")), logger: logger);
        for (int i = 0; i < 5; i++)
        {
            Assert.Equal(Errno.EIO, disk.AskError(FuseOpcode.FUSE_READ, new fuse_read_in { size = 1 }));
        }

        Assert.Equal(1, logger.Errors);
    }

    [Fact]
    public void Flush_Fails_NextCloseTriesAgain()
    {
        FaultyFile file = new(new MemoryFile(content: new byte[4096]));
        using FuseFixture disk = new(file: file);
        disk.Ask(FuseFrames.Build(FuseOpcode.FUSE_WRITE, new fuse_write_in { size = 1 }, [1]));
        file.SetPlan(new FaultPlan { Calls = StorageCalls.Flush, FailFrom = 1, Forever = true });

        Assert.Equal(-(int)Errno.EIO, FuseFrames.Header(disk.Ask(FuseFrames.Build(FuseOpcode.FUSE_FLUSH))).error);
        Assert.Equal(-(int)Errno.EIO, FuseFrames.Header(disk.Ask(FuseFrames.Build(FuseOpcode.FUSE_FLUSH))).error);
    }

    // Mostly a true length, a known opcode and the right inode, so that the operations are reached.
    private static void Disguise(Random random, byte[] frame, uint[] opcodes)
    {
        if (frame.Length >= 4 && random.Next(10) > 0)
        {
            BinaryPrimitives.WriteUInt32LittleEndian(frame, (uint)frame.Length);
        }

        if (frame.Length >= 8)
        {
            BinaryPrimitives.WriteUInt32LittleEndian(frame.AsSpan(4), opcodes[random.Next(opcodes.Length)]);
        }

        if (frame.Length >= 24)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(frame.AsSpan(16), 1);
        }

        // Small numbers now and then: offsets, sizes and modes that mean something. No size in a SETATTR, which would be obeyed.
        for (int at = 40; at + 8 <= frame.Length; at += 8)
        {
            if (random.Next(2) == 0)
            {
                BinaryPrimitives.WriteUInt64LittleEndian(frame.AsSpan(at), (ulong)random.Next(0, 100_000));
            }
        }

        if (frame.Length >= 44 && frame[4] == (byte)FuseOpcode.FUSE_SETATTR)
        {
            frame[40] &= 0xff ^ (byte)FuseFlags.FATTR_SIZE;
        }
    }

    /// <summary>Every read and write fails with the same exception.</summary>
    private sealed class FailingFile(Exception failure) : StorageFile
    {
        public override string Name => "failing";

        public override bool ReadOnly => false;

        public override long Length => 4096;

        public override long AllocatedBytes => 4096;

        public override ValueTask FlushAsync() => ValueTask.CompletedTask;

        public override ValueTask ResizeAsync(long length) => ValueTask.FromException(failure);

        public override ValueTask<FileExtent> MapAsync(long offset, long length) => ValueTask.FromException<FileExtent>(failure);

        public override ValueTask DisposeAsync() => ValueTask.CompletedTask;

        protected override ValueTask ReadCoreAsync(long offset, Memory<byte> buffer) => ValueTask.FromException(failure);

        protected override ValueTask WriteCoreAsync(long offset, ReadOnlyMemory<byte> buffer) => ValueTask.FromException(failure);

        protected override ValueTask WriteZeroesCoreAsync(long offset, long length, bool mayUnmap) => ValueTask.FromException(failure);

        protected override ValueTask<bool> PunchHoleCoreAsync(long offset, long length) => ValueTask.FromException<bool>(failure);
    }

    private sealed class CountingLogger : ILogger
    {
        internal int Errors { get; private set; }

        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => true;

        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter) =>
            Errors += logLevel == LogLevel.Error ? 1 : 0;
    }
}
