using BlockMount.Base.Async;
using Xunit;

namespace BlockMount.Tests.Base;

public sealed class AsyncMutexTests
{
    private static readonly TimeSpan s_limit = TimeSpan.FromSeconds(60);

    [Fact]
    public async Task Lock_ManyContenders_AdmitsOneAtATime()
    {
        AsyncMutex mutex = new();
        int inside = 0;
        long total = 0;
        Task[] workers = [.. Enumerable.Range(0, 8).Select(_ => Task.Run(async () =>
        {
            for (int i = 0; i < 2000; i++)
            {
                using AsyncMutex.Releaser held = await mutex.LockAsync();
                Assert.Equal(1, Interlocked.Increment(ref inside));
                if (i % 16 == 0)
                {
                    await Task.Yield();
                }

                total++;
                Interlocked.Decrement(ref inside);
            }
        }))];
        await Task.WhenAll(workers).WaitAsync(s_limit);
        Assert.Equal(16_000, total);
        Assert.False(mutex.IsHeld);
    }

    [Fact]
    public async Task Lock_Waiters_AreServedInOrder()
    {
        AsyncMutex mutex = new();
        List<int> order = [];
        AsyncMutex.Releaser first = await mutex.LockAsync();
        List<Task> waiters = [];
        for (int i = 0; i < 20; i++)
        {
            waiters.Add(EnterAsync(mutex, order, i));
        }

        Assert.All(waiters, waiter => Assert.False(waiter.IsCompleted));
        first.Dispose();
        await Task.WhenAll(waiters).WaitAsync(s_limit);
        Assert.Equal(Enumerable.Range(0, 20), order);
    }

    [Fact]
    public void Lock_Uncontended_AllocatesNothing()
    {
        AsyncMutex mutex = new();
        long bytes = 0;
        for (int pass = 0; pass < 2; pass++)
        {
            long before = GC.GetAllocatedBytesForCurrentThread();
            for (int i = 0; i < 10_000; i++)
            {
                ValueTask<AsyncMutex.Releaser> pending = mutex.LockAsync();
                if (!pending.IsCompletedSuccessfully)
                {
                    throw new InvalidOperationException("the operation did not complete at once");
                }

                pending.GetAwaiter().GetResult().Dispose();
            }

            bytes = GC.GetAllocatedBytesForCurrentThread() - before;
        }

        Assert.Equal(0, bytes);
    }

    private static async Task EnterAsync(AsyncMutex mutex, List<int> order, int number)
    {
        using AsyncMutex.Releaser held = await mutex.LockAsync();
        order.Add(number);
    }
}
