using BlockMount.Base;
using BlockMount.Block.Devices;
using BlockMount.Block.Nodes;
using BlockMount.Formats;
using BlockMount.Formats.Raw;
using BlockMount.TestSupport;
using BlockMount.TestSupport.Faults;
using Xunit;

namespace BlockMount.Tests.Block;

/// <summary>What a device promises to every export: bounds, read-only, drained sections, poisoned flushes, statistics.</summary>
public sealed class BlockDeviceTests
{
    private const int Size = 64 << 10;

    [Theory]
    [InlineData(Size, 1)]
    [InlineData(Size - 1, 2)]
    [InlineData(-1, 1)]
    [InlineData(long.MaxValue, 1)]
    public async Task Request_OutsideTheDisk_IsRefusedByKind(long offset, int length)
    {
        await using BlockDevice device = Raw(new MemoryFile("disk", content: new byte[Size]));
        byte[] buffer = new byte[length];
        Assert.Equal(Errno.EINVAL, await ErrnoOfAsync(() => device.ReadAsync(offset, buffer)));
        Assert.Equal(Errno.ENOSPC, await ErrnoOfAsync(() => device.WriteAsync(offset, buffer)));
        Assert.Equal(Errno.ENOSPC, await ErrnoOfAsync(() => device.ZeroAsync(offset, length, ZeroFlags.None)));
        Assert.Equal(Errno.EINVAL, await ErrnoOfAsync(() => device.DiscardAsync(offset, length)));
        Assert.Equal(1, device.Statistics.Reads.Failures);
        Assert.Equal(1, device.Statistics.Writes.Failures);
    }

    [Fact]
    public async Task Request_OfNoBytesAtTheEnd_Succeeds()
    {
        await using BlockDevice device = Raw(new MemoryFile("disk", content: new byte[Size]));
        await device.ReadAsync(Size, Memory<byte>.Empty);
        await device.WriteAsync(Size, Memory<byte>.Empty);
    }

    [Fact]
    public async Task ReadOnlyDevice_AnyChange_IsEROFSAndFlushDoesNothing()
    {
        await using BlockDevice device = new("disk", Node(new MemoryFile("disk", content: new byte[Size])), readOnly: true);
        Assert.Equal(Errno.EROFS, await ErrnoOfAsync(() => device.WriteAsync(0, new byte[1])));
        Assert.Equal(Errno.EROFS, await ErrnoOfAsync(() => device.ZeroAsync(0, 1, ZeroFlags.None)));
        Assert.Equal(Errno.EROFS, await ErrnoOfAsync(() => device.DiscardAsync(0, 1)));
        Assert.Equal(Errno.EROFS, await ErrnoOfAsync(() => device.ResizeAsync(1)));
        await device.FlushAsync();
    }

    [Fact]
    public async Task Flush_FailedOnce_FailsForEver()
    {
        FaultyFile file = new(new MemoryFile("disk", content: new byte[Size]));
        BlockDevice device = new("disk", Node(file), readOnly: false);
        await device.WriteAsync(0, new byte[512]);
        file.SetPlan(new FaultPlan { Calls = StorageCalls.Flush, FailFrom = 1, Errno = Errno.EIO });
        Assert.Equal(Errno.EIO, await ErrnoOfAsync(() => device.FlushAsync()));
        Assert.Equal(Errno.EIO, await ErrnoOfAsync(() => device.FlushAsync()));
        Assert.Equal(Errno.EIO, await ErrnoOfAsync(() => device.WriteAsync(0, new byte[1], fua: true)));
    }

    [Fact]
    public async Task DiscardIgnored_DiscardAndUnmap_LeaveTheSpaceAlone()
    {
        byte[] content = new byte[Size];
        Array.Fill(content, (byte)7);
        await using BlockDevice device = new("disk", Node(new MemoryFile("disk", content: content)), readOnly: false) { DiscardEnabled = false };
        await device.DiscardAsync(0, Size);
        byte[] read = new byte[Size];
        await device.ReadAsync(0, read);
        Assert.Equal(content, read);
    }

    [Fact]
    public async Task Resize_WhileARequestIsInFlight_WaitsAndHoldsNewOnesBack()
    {
        TaskCompletionSource release = new(TaskCreationOptions.RunContinuationsAsynchronously);
        await using BlockDevice device = new("disk", new SlowNode(Node(new MemoryFile("disk", content: new byte[Size])), release.Task), readOnly: false);
        long announced = 0;
        device.Resized += size => announced = size;
        Task read = device.ReadAsync(0, new byte[1]).AsTask();
        Task resize = device.ResizeAsync(2 * Size).AsTask();
        Task late = device.WriteAsync(Size, new byte[1]).AsTask();
        Assert.False(resize.IsCompleted);
        Assert.False(late.IsCompleted);
        release.SetResult();
        await Task.WhenAll(read, resize, late).WaitAsync(TimeSpan.FromSeconds(10));
        Assert.Equal(2 * Size, announced);
        Assert.Equal(2 * Size, device.Size);
    }

    [Fact]
    public async Task RunDrained_NodeReplaced_LaterRequestsGoToTheNewOne()
    {
        await using BlockDevice device = Raw(new MemoryFile("old", content: new byte[Size]));
        byte[] content = new byte[Size];
        Array.Fill(content, (byte)9);
        await device.RunDrainedAsync(async old =>
        {
            await old.DisposeAsync();
            return Node(new MemoryFile("new", content: content));
        });
        byte[] read = new byte[Size];
        await device.ReadAsync(0, read);
        Assert.Equal(content, read);
    }

    private static FormatNode Node(BlockMount.Storage.StorageFile file) => new("node0", file.Name, new RawDriver(file), backing: null);

    private static BlockDevice Raw(MemoryFile file) => new("disk", Node(file), readOnly: false);

    private static async Task<Errno> ErrnoOfAsync(Func<ValueTask> request) =>
        (await Assert.ThrowsAsync<BlockIOException>(async () => await request())).Errno;

    /// <summary>Reads wait until they are released; everything else is the inner node's.</summary>
    private sealed class SlowNode(Node inner, Task released) : Node
    {
        public override string Name => inner.Name;

        public override string DriverName => inner.DriverName;

        public override string FileName => inner.FileName;

        public override long Size => inner.Size;

        public override bool ReadOnly => inner.ReadOnly;

        public override long AllocatedBytes => inner.AllocatedBytes;

        public override int ClusterSize => inner.ClusterSize;

        public override Node? Backing => inner.Backing;

        public override async ValueTask ReadAsync(long offset, Memory<byte> buffer)
        {
            await released;
            await inner.ReadAsync(offset, buffer);
        }

        public override ValueTask WriteAsync(long offset, ReadOnlyMemory<byte> buffer) => inner.WriteAsync(offset, buffer);

        public override ValueTask ZeroAsync(long offset, long length, ZeroFlags flags) => inner.ZeroAsync(offset, length, flags);

        public override ValueTask DiscardAsync(long offset, long length) => inner.DiscardAsync(offset, length);

        public override ValueTask FlushAsync() => inner.FlushAsync();

        public override ValueTask<BlockStatus> StatusAsync(long offset, long length, MapPurpose purpose) => inner.StatusAsync(offset, length, purpose);

        public override ValueTask ResizeAsync(long size, Preallocation preallocation = Preallocation.Off) => inner.ResizeAsync(size);

        public override ValueTask DisposeAsync() => inner.DisposeAsync();
    }
}
