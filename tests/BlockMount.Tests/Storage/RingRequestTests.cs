using BlockMount.Base;
using BlockMount.Base.Async;
using BlockMount.Base.Interop.Uring;
using BlockMount.Storage;
using Xunit;

namespace BlockMount.Tests.Storage;

/// <summary>What a request makes of the kernel's answers; the test plays the kernel.</summary>
public sealed class RingRequestTests
{
    private const int Length = 8192;
    private const long Offset = 1 << 20;

    private readonly RequestGate _gate = new();
    private readonly byte[] _buffer = [.. Enumerable.Repeat((byte)0xEE, Length)];
    private readonly Target _target = new();

    [Fact]
    public async Task Read_InPieces_AsksForTheRest()
    {
        RingRequest request = Rent(isWrite: false, out Task end);
        io_uring_sqe first = Describe(request);
        Assert.Equal((IoUringConstants.IORING_OP_READ, 77, (ulong)Offset, (uint)Length, (byte)0), (first.opcode, first.fd, first.off, first.len, first.flags));
        Assert.True(request.Advance(512));
        Assert.True(request.Advance(-(int)Errno.EINTR));
        io_uring_sqe rest = Describe(request);
        Assert.Equal((first.addr + 512, (ulong)Offset + 512, Length - 512u), (rest.addr, rest.off, rest.len));
        Assert.False(request.Advance(Length - 512));
        await FinishAsync(request, end);
        Assert.All(_buffer, value => Assert.Equal(0xEE, value));
    }

    // At the end of the file a direct read stops at a byte that need not be aligned; another read would be refused there.
    [Theory]
    [InlineData(0)]
    [InlineData(513)]
    [InlineData(7777)]
    public async Task Read_ThatMeetsTheEnd_GivesZerosForTheRest(int count)
    {
        RingRequest request = Rent(isWrite: false, out Task end);
        Assert.False(request.Advance(count));
        await FinishAsync(request, end);
        Assert.All(_buffer[..count], value => Assert.Equal(0xEE, value));
        Assert.All(_buffer[count..], value => Assert.Equal(0, value));
    }

    [Fact]
    public async Task Read_EndsAlignedThenNothing_GivesZerosForTheRest()
    {
        RingRequest request = Rent(isWrite: false, out Task end);
        Assert.True(request.Advance(4096));
        Assert.False(request.Advance(0));
        await FinishAsync(request, end);
        Assert.Equal(0xEE, _buffer[4095]);
        Assert.All(_buffer[4096..], value => Assert.Equal(0, value));
    }

    [Fact]
    public async Task Write_InPieces_TellsTheEndOnce()
    {
        RingRequest request = Rent(isWrite: true, out Task end);
        Assert.Equal(IoUringConstants.IORING_OP_WRITE, Describe(request).opcode);
        Assert.True(request.Advance(100));
        Assert.False(request.Advance(Length - 100));
        await FinishAsync(request, end);
        Assert.Equal([Offset + Length], _target.Ends);
    }

    [Theory]
    [InlineData(true, 0, Errno.EIO)]
    [InlineData(true, -(int)Errno.ENOSPC, Errno.ENOSPC)]
    [InlineData(true, -(int)Errno.EFBIG, Errno.EFBIG)]
    [InlineData(false, -(int)Errno.EIO, Errno.EIO)]
    public async Task Failure_AfterAPart_NamesTheRest(bool isWrite, int result, Errno errno)
    {
        RingRequest request = Rent(isWrite, out Task end);
        Assert.True(request.Advance(4096));
        Assert.False(request.Advance(result));
        request.Finish();
        BlockIOException error = await Assert.ThrowsAsync<BlockIOException>(() => end);
        Assert.Equal(errno, error.Errno);
        Assert.Contains($"{isWrite} {Offset + 4096} {Length - 4096}", error.Message, StringComparison.Ordinal);
        Assert.Empty(_target.Ends);
        Assert.Equal(0, _gate.InFlight);
    }

    [Fact]
    public async Task Again_IsAskedOfAThreadOfTheKernelOnce()
    {
        RingRequest request = Rent(isWrite: false, out Task end);
        Assert.True(request.Advance(-(int)Errno.EAGAIN));
        Assert.Equal(IoUringConstants.IOSQE_ASYNC, Describe(request).flags);
        Assert.False(request.Advance(-(int)Errno.EAGAIN));
        request.Finish();
        Assert.Equal(Errno.EAGAIN, (await Assert.ThrowsAsync<BlockIOException>(() => end)).Errno);
    }

    [Fact]
    public async Task PooledRequest_AfterAFailure_BeginsAfresh()
    {
        for (int round = 0; round < 3; round++)
        {
            RingRequest request = Rent(isWrite: false, out Task end);
            Assert.Equal((0, Length), (Describe(request).flags, (int)Describe(request).len));
            Assert.True(request.Advance(-(int)Errno.EAGAIN));
            Assert.True(request.Advance(4096));
            Assert.False(request.Advance(-(int)Errno.EIO));
            request.Finish();
            await Assert.ThrowsAsync<BlockIOException>(() => end);
        }
    }

    private RingRequest Rent(bool isWrite, out Task end)
    {
        Assert.True(_gate.TryEnter());
        RingRequest request = RingRequest.Rent(_target, _gate, Offset, _buffer, isWrite);
        end = request.Task.AsTask();
        return request;
    }

    private async Task FinishAsync(RingRequest request, Task end)
    {
        request.Finish();
        await end.WaitAsync(TimeSpan.FromSeconds(30));
        Assert.Equal(0, _gate.InFlight);
    }

    private static unsafe io_uring_sqe Describe(RingRequest request)
    {
        io_uring_sqe entry = default;
        request.Describe(&entry);
        return entry;
    }

    private sealed class Target : ITransferTarget
    {
        public List<long> Ends { get; } = [];

        public int Descriptor => 77;

        public int ReadUnit => 512;

        public void BlockingRead(long offset, Span<byte> buffer) => throw new NotSupportedException();

        public void BlockingWrite(long offset, ReadOnlySpan<byte> buffer) => throw new NotSupportedException();

        public bool IsPlainRead(long offset, ReadOnlySpan<byte> buffer) => true;

        public bool IsPlainWrite(long offset, ReadOnlySpan<byte> buffer) => true;

        public void EndPlainWrite(long end) => Ends.Add(end);

        public BlockIOException PlainFailure(Errno errno, bool isWrite, long offset, int length) => new(errno, $"{isWrite} {offset} {length}");
    }
}
