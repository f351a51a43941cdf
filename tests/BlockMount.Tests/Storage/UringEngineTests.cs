using BlockMount.Base;
using BlockMount.Base.Buffers;
using BlockMount.Base.Interop;
using BlockMount.Storage;
using BlockMount.TestSupport;
using Xunit;

namespace BlockMount.Tests.Storage;

/// <summary>An engine with a ring of its own, so that it can be small and can end.</summary>
public sealed class UringEngineTests : IDisposable
{
    private const int Block = 4096;

    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [RequiresTheory(Needs.IoUring)]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(256)]
    public async Task ManyRequests_MoreThanTheRingHolds_AllArrive(int depth)
    {
        const int Count = 1000;
        using UringEngine engine = Start(depth);
        await using PosixFile file = Open(engine, Count * Block);
        await Task.WhenAll(Enumerable.Range(0, Count).Select(i => Task.Run(async () =>
        {
            using AlignedBuffer buffer = new(Block);
            buffer.GetSpan().Fill((byte)(i % 251));
            await file.WriteAsync((long)i * Block, buffer.Memory);
        }))).WaitAsync(TimeSpan.FromSeconds(60));
        await Task.WhenAll(Enumerable.Range(0, Count).Select(i => Task.Run(async () =>
        {
            using AlignedBuffer buffer = new(Block);
            await file.ReadAsync((long)i * Block, buffer.Memory);
            Assert.Equal(-1, buffer.GetSpan().IndexOfAnyExcept((byte)(i % 251)));
        }))).WaitAsync(TimeSpan.FromSeconds(60));
    }

    [RequiresFact(Needs.IoUring)]
    public async Task RandomTransfers_AlignedAndNot_ReadBackAsWritten()
    {
        const int Size = 1 << 20;
        using UringEngine engine = Start(depth: 4);
        await using PosixFile file = Open(engine, Size);
        using AlignedBuffer buffer = new(Size);
        byte[] model = new byte[Size];
        Random random = new(11);
        for (int step = 0; step < 500; step++)
        {
            int unit = random.Next(3) == 0 ? 1 : Block;
            int offset = random.Next(Size / unit) * unit;
            int length = Math.Min(Size - offset, unit * random.Next(1, 200_000 / unit));
            Memory<byte> part = buffer.Memory.Slice(unit == 1 ? 3 : 0, Math.Min(length, Size - 3));
            if (random.Next(2) == 0)
            {
                random.NextBytes(part.Span);
                part.Span.CopyTo(model.AsSpan(offset));
                await file.WriteAsync(offset, part);
            }
            else
            {
                await file.ReadAsync(offset, part);
                Assert.True(part.Span.SequenceEqual(model.AsSpan(offset, part.Length)));
            }
        }

        Assert.Equal(Size, file.Length);
    }

    [RequiresTheory(Needs.IoUring)]
    [InlineData(10_000, 8192)]
    [InlineData(10_000, 12_288)]
    [InlineData(8192, 8192)]
    [InlineData(1, 0)]
    public async Task Read_AcrossTheEndOfTheFile_GivesZerosBehindIt(int fileLength, long offset)
    {
        using UringEngine engine = Start(depth: 2);
        await using PosixFile file = Open(engine, fileLength, 0xAB);
        using AlignedBuffer buffer = new(2 * Block);
        buffer.GetSpan().Fill(0xEE);
        await file.ReadAsync(offset, buffer.Memory);
        int inside = (int)Math.Clamp(fileLength - offset, 0, buffer.Length);
        Assert.Equal(-1, buffer.GetSpan()[..inside].IndexOfAnyExcept((byte)0xAB));
        Assert.Equal(-1, buffer.GetSpan()[inside..].IndexOfAnyExcept((byte)0));
    }

    [RequiresFact(Needs.IoUring)]
    public async Task Read_OfWhatThePageCacheLacks_GetsItFromTheDisk()
    {
        using UringEngine engine = Start(depth: 2);
        byte[] content = new byte[1 << 20];
        new Random(4).NextBytes(content);
        string path = _folder.Create("file", content);
        (await ToolProcess.RunAsync("dd", $"of={path}", "oflag=nocache", "conv=notrunc,fdatasync", "count=0")).MustSucceed();
        int fd = Descriptor(path, LinuxConstants.O_RDONLY);
        await using PosixFile file = new(new PosixHandle(fd, fd, path, false), new StorageOpenOptions { ReadOnly = true }, null, engine);
        byte[] read = new byte[content.Length];
        await file.ReadAsync(0, read);
        Assert.True(read.AsSpan().SequenceEqual(content));
    }

    [RequiresFact(Needs.IoUring)]
    public async Task Dispose_WithRequestsUnderWay_WaitsForThem()
    {
        using UringEngine engine = Start(depth: 8);
        PosixFile file = Open(engine, 64 * Block, 0x5A);
        AlignedBuffer[] buffers = [.. Enumerable.Range(0, 64).Select(_ => new AlignedBuffer(Block))];
        Task[] reads = [.. Enumerable.Range(0, 64).Select(i => file.ReadAsync(i * Block, buffers[i].Memory).AsTask())];
        await file.DisposeAsync().AsTask().WaitAsync(TimeSpan.FromSeconds(30));
        await Task.WhenAll(reads).WaitAsync(TimeSpan.FromSeconds(30));
        foreach (AlignedBuffer buffer in buffers)
        {
            Assert.Equal(-1, buffer.GetSpan().IndexOfAnyExcept((byte)0x5A));
            ((IDisposable)buffer).Dispose();
        }

        Assert.Equal(Errno.EBADF, (await Assert.ThrowsAsync<BlockIOException>(async () => await file.ReadAsync(0, new byte[Block]))).Errno);
    }

    [RequiresFact(Needs.IoUring)]
    public async Task Failure_OfTheKernel_ReachesTheWaiterWithNumbers()
    {
        using UringEngine engine = Start(depth: 2);
        string path = _folder.Create("file", new byte[4 * Block]);
        // Opened for reading only: the kernel refuses the write with EBADF, through the ring as anywhere.
        int fd = Descriptor(path, LinuxConstants.O_DIRECT);
        await using PosixFile file = new(new PosixHandle(fd, fd, path, false), new StorageOpenOptions(), new DirectAlignment(Block, Block), engine);
        using AlignedBuffer buffer = new(Block);
        BlockIOException error = await Assert.ThrowsAsync<BlockIOException>(async () => await file.WriteAsync(Block, buffer.Memory));
        Assert.Equal(Errno.EBADF, error.Errno);
        Assert.Contains($"write of {Block} bytes at {Block} to '{path}'", error.Message, StringComparison.Ordinal);
        await file.ReadAsync(0, buffer.Memory);
    }

    private static UringEngine Start(int depth)
    {
        UringEngine? engine = UringEngine.TryStart(depth, out Errno errno);
        Assert.True(engine is not null, $"{errno}");
        return engine;
    }

    private PosixFile Open(UringEngine engine, int length, byte value = 0)
    {
        byte[] content = new byte[length];
        content.AsSpan().Fill(value);
        string path = _folder.Create("file", content);
        int fd = Descriptor(path, LinuxConstants.O_RDWR | LinuxConstants.O_DIRECT);
        DirectAlignment alignment = new(Block, Block);
        return new PosixFile(new PosixHandle(fd, Descriptor(path, LinuxConstants.O_RDWR), path, false), new StorageOpenOptions { Direct = true }, alignment, engine);
    }

    private static int Descriptor(string path, int flags)
    {
        int fd = Libc.open(path, flags | LinuxConstants.O_CLOEXEC, 0);
        Assert.True(fd >= 0);
        return fd;
    }
}
