using BlockMount.Base.Async;
using Xunit;

namespace BlockMount.Tests.Base;

public sealed class RequestGateTests
{
    private static readonly TimeSpan s_limit = TimeSpan.FromSeconds(60);

    [Fact]
    public async Task Close_WithRequestsInside_WaitsForTheLast()
    {
        RequestGate gate = new();
        Assert.True(gate.TryEnter());
        Assert.True(gate.TryEnter());
        Task closing = gate.CloseAsync().AsTask();
        gate.Exit();
        Assert.False(closing.IsCompleted);
        Assert.False(gate.TryEnter());
        Assert.False(closing.IsCompleted);
        gate.Exit();
        await closing.WaitAsync(s_limit);
        Assert.Equal(0, gate.InFlight);
    }

    [Fact]
    public async Task Enter_ClosedGate_WaitsForOpen()
    {
        RequestGate gate = new();
        await gate.CloseAsync();
        Task entering = gate.EnterAsync().AsTask();
        Assert.False(entering.IsCompleted);
        gate.Open();
        await entering.WaitAsync(s_limit);
        Assert.Equal(1, gate.InFlight);
        gate.Exit();
    }

    [Fact]
    public async Task Close_WhileManyThreadsEnterAndLeave_NeverFindsAnyoneInside()
    {
        RequestGate gate = new();
        long entered = 0;
        long inside = 0;
        using CancellationTokenSource end = new();
        Task[] workers = [.. Enumerable.Range(0, 6).Select(number => Task.Run(async () =>
        {
            while (!end.IsCancellationRequested)
            {
                await gate.EnterAsync();
                Interlocked.Increment(ref inside);
                if (number % 2 == 0)
                {
                    await Task.Yield();
                }

                Interlocked.Increment(ref entered);
                Interlocked.Decrement(ref inside);
                gate.Exit();
            }
        }))];

        for (int round = 0; round < 3000; round++)
        {
            await gate.CloseAsync().AsTask().WaitAsync(s_limit);
            Assert.Equal(0, Interlocked.Read(ref inside));
            long before = Interlocked.Read(ref entered);
            if (round % 8 == 0)
            {
                await Task.Yield();
            }

            Assert.Equal(before, Interlocked.Read(ref entered));
            gate.Open();
        }

        await end.CancelAsync();
        await Task.WhenAll(workers).WaitAsync(s_limit);
        Assert.Equal(0, gate.InFlight);
    }

    [Fact]
    public async Task Enter_AfterManyCycles_IsNeverForgotten()
    {
        RequestGate gate = new();
        for (int round = 0; round < 2000; round++)
        {
            await gate.CloseAsync();
            Task[] waiting = [.. Enumerable.Range(0, 4).Select(_ => Task.Run(async () =>
            {
                await gate.EnterAsync();
                gate.Exit();
            }))];
            gate.Open();
            await Task.WhenAll(waiting).WaitAsync(s_limit);
        }
    }
}
