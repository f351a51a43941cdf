using BlockMount.Base.Async;
using Xunit;

namespace BlockMount.Tests.Base;

public sealed class PooledCompletionTests
{
    private static readonly TimeSpan s_limit = TimeSpan.FromSeconds(60);

    [Fact]
    public async Task Complete_ReusedManyTimes_WakesEachWaiter()
    {
        PooledCompletion completion = new();
        for (int i = 0; i < 2000; i++)
        {
            ValueTask pending = completion.Task;
            if (i % 2 == 0)
            {
                completion.Complete();
                await pending.AsTask().WaitAsync(s_limit);
            }
            else
            {
                Task waiting = pending.AsTask();
                completion.Complete();
                await waiting.WaitAsync(s_limit);
            }

            completion.Reset();
        }
    }

    [Fact]
    public async Task Fail_ThrowsTheErrorOnce_AndTheNextUseIsClean()
    {
        PooledCompletion completion = new();
        Task waiting = completion.Task.AsTask();
        completion.Fail(new InvalidDataException("broken"));
        Assert.Equal("broken", (await Assert.ThrowsAsync<InvalidDataException>(() => waiting.WaitAsync(s_limit))).Message);
        completion.Reset();
        Task next = completion.Task.AsTask();
        completion.Complete();
        await next.WaitAsync(s_limit);
    }

    [Fact]
    public async Task Complete_Continuation_RunsOnThePoolAndNotOnTheCompletingThread()
    {
        PooledCompletion completion = new();
        int completing = 0;
        Thread thread = new(() =>
        {
            completing = Environment.CurrentManagedThreadId;
            completion.Complete();
        });
        Task<(int Thread, bool OnPool)> waiting = WaitAsync(completion);
        thread.Start();
        (int resumed, bool onPool) = await waiting.WaitAsync(s_limit);
        thread.Join();
        Assert.NotEqual(completing, resumed);
        Assert.True(onPool);
    }

    [Fact]
    public void Await_OfAnEarlierUse_IsRefused()
    {
        PooledCompletion completion = new();
        ValueTask stale = completion.Task;
        completion.Reset();
        Assert.ThrowsAny<InvalidOperationException>(() => stale.GetAwaiter().GetResult());
    }

    private static async Task<(int Thread, bool OnPool)> WaitAsync(PooledCompletion completion)
    {
        // Waits before anybody completes it, and not for the test runner's own threads.
        await completion.Task.ConfigureAwait(false);
        return (Environment.CurrentManagedThreadId, Thread.CurrentThread.IsThreadPoolThread);
    }
}
