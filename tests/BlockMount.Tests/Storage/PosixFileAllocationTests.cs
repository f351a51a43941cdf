using BlockMount.Base.Buffers;
using BlockMount.Storage;
using BlockMount.TestSupport;
using Xunit;

namespace BlockMount.Tests.Storage;

/// <summary>Tests that count the whole process's allocations run alone.</summary>
[CollectionDefinition("Allocations", DisableParallelization = true)]
public sealed class AllocationCollection;

/// <summary>The hot path's promise: no garbage per request.</summary>
[Collection("Allocations")]
public sealed class PosixFileAllocationTests : IDisposable
{
    private const int Operations = 10_000;

    private readonly TemporaryFolder _disk = new();
    private readonly TemporaryFolder _memory = new("/dev/shm");

    public void Dispose()
    {
        _disk.Dispose();
        _memory.Dispose();
    }

    [Fact]
    public async Task Read_PageCached_AllocatesNothing()
    {
        await using StorageFile file = await PosixStorage.Instance.OpenAsync(_disk.Create("file", new byte[1 << 20]), new StorageOpenOptions());
        byte[] buffer = new byte[4096];
        Assert.Equal(0, MeasureInline(offset => file.ReadAsync(offset, buffer)));
    }

    [Fact]
    public async Task Write_InPlace_AllocatesNothing()
    {
        await using StorageFile file = await PosixStorage.Instance.OpenAsync(_disk.Create("file", new byte[1 << 20]), new StorageOpenOptions());
        byte[] buffer = new byte[4096];
        Assert.Equal(0, MeasureInline(offset => file.WriteAsync(offset, buffer)));
    }

    [Fact]
    public async Task Read_ThroughTheIoThreads_AllocatesNothing()
    {
        // tmpfs has no reads that only look at the page cache, so every read takes the hop.
        await using StorageFile file = await PosixStorage.Instance.OpenAsync(_memory.Create("file", new byte[1 << 20]), new StorageOpenOptions());
        byte[] buffer = new byte[4096];
        await AllocatesNothingAsync(offset => file.ReadAsync(offset, buffer));
    }

    // Threads wait for the disk, or the kernel does: with O_DIRECT nothing is done at once.
    [RequiresTheory(Needs.IoUring)]
    [InlineData(IoEngine.Threads, false)]
    [InlineData(IoEngine.Threads, true)]
    [InlineData(IoEngine.IoUring, false)]
    [InlineData(IoEngine.IoUring, true)]
    public async Task Direct_AlignedTransfers_AllocateNothing(IoEngine engine, bool write)
    {
        StorageOpenOptions options = new() { Direct = true, Engine = engine };
        await using StorageFile file = await PosixStorage.Instance.OpenAsync(_disk.Create("file", new byte[1 << 20]), options);
        using AlignedBuffer buffer = new(4096);
        await AllocatesNothingAsync(offset => write ? file.WriteAsync(offset, buffer.Memory) : file.ReadAsync(offset, buffer.Memory), Operations / 5);
    }

    private static async Task AllocatesNothingAsync(Func<long, ValueTask> operation, int count = Operations)
    {
        long fewest = long.MaxValue;
        for (int pass = 0; pass < 6; pass++)
        {
            long before = GC.GetTotalAllocatedBytes(precise: true);
            await RunManyAsync(operation, count);
            fewest = Math.Min(fewest, GC.GetTotalAllocatedBytes(precise: true) - before);
        }

        // All threads are counted, also those with which the test host reports results: hence the best of several passes,
        // and less than a byte for each operation rather than none at all.
        Assert.InRange(fewest, 0, count - 1);
    }

    private static long MeasureInline(Func<long, ValueTask> operation)
    {
        long bytes = 0;
        for (int pass = 0; pass < 2; pass++)
        {
            long before = GC.GetAllocatedBytesForCurrentThread();
            for (int i = 0; i < Operations; i++)
            {
                ValueTask pending = operation((i & 255) * 4096L);
                if (!pending.IsCompletedSuccessfully)
                {
                    throw new InvalidOperationException("the operation did not complete at once");
                }

                pending.GetAwaiter().GetResult();
            }

            bytes = GC.GetAllocatedBytesForCurrentThread() - before;
        }

        return bytes;
    }

    // Away from the test runner's SynchronizationContext, which allocates to post each continuation.
    private static Task RunManyAsync(Func<long, ValueTask> operation, int count) => Task.Run(async () =>
    {
        for (int i = 0; i < count; i++)
        {
            await operation((i & 255) * 4096L);
        }
    });
}
