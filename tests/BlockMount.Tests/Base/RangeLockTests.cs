using BlockMount.Base.Async;
using Xunit;

namespace BlockMount.Tests.Base;

public sealed class RangeLockTests
{
    private static readonly TimeSpan s_limit = TimeSpan.FromSeconds(60);

    [Fact]
    public async Task Lock_DisjointRanges_DoNotWait()
    {
        RangeLock ranges = new();
        RangeLock.Entry left = await ranges.LockAsync(0, 10);
        ValueTask<RangeLock.Entry> right = ranges.LockAsync(10, 10);
        Assert.True(right.IsCompletedSuccessfully);
        ranges.Release(left);
        ranges.Release(await right);
        Assert.Equal(0, ranges.Count);
    }

    [Fact]
    public async Task Lock_OverlappingRange_WaitsAndKeepsItsTurn()
    {
        RangeLock ranges = new();
        RangeLock.Entry first = await ranges.LockAsync(0, 10);
        Task<RangeLock.Entry> wide = ranges.LockAsync(0, 100).AsTask();
        // Overlaps only the waiter: it must not overtake it, or wide ranges would starve.
        Task<RangeLock.Entry> later = ranges.LockAsync(50, 10).AsTask();
        Assert.False(wide.IsCompleted);
        Assert.False(later.IsCompleted);
        ranges.Release(first);
        RangeLock.Entry second = await wide.WaitAsync(s_limit);
        Assert.False(later.IsCompleted);
        ranges.Release(second);
        ranges.Release(await later.WaitAsync(s_limit));
        Assert.Equal(0, ranges.Count);
    }

    [Fact]
    public async Task Lock_WholeAddressSpace_ExcludesEverything()
    {
        RangeLock ranges = new();
        RangeLock.Entry all = await ranges.LockAsync(0, long.MaxValue);
        Task<RangeLock.Entry> high = ranges.LockAsync(long.MaxValue - 10, 5).AsTask();
        Assert.False(high.IsCompleted);
        ranges.Release(all);
        ranges.Release(await high.WaitAsync(s_limit));
    }

    [Fact]
    public async Task Lock_ManyContenders_NeverShareABlock()
    {
        const int Blocks = 32;
        RangeLock ranges = new();
        int[] owners = new int[Blocks];
        Task[] workers = [.. Enumerable.Range(1, 8).Select(id => Task.Run(async () =>
        {
            Random random = new(id);
            for (int i = 0; i < 3000; i++)
            {
                int start = random.Next(Blocks);
                int length = random.Next(1, Blocks - start + 1);
                RangeLock.Entry held = await ranges.LockAsync(start, length);
                for (int block = start; block < start + length; block++)
                {
                    Assert.Equal(0, Interlocked.Exchange(ref owners[block], id));
                }

                if (i % 16 == 0)
                {
                    await Task.Yield();
                }

                for (int block = start; block < start + length; block++)
                {
                    Assert.Equal(id, Interlocked.Exchange(ref owners[block], 0));
                }

                ranges.Release(held);
            }
        }))];
        await Task.WhenAll(workers).WaitAsync(s_limit);
        Assert.Equal(0, ranges.Count);
    }
}
