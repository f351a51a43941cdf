using BlockMount.Base.Async;
using Xunit;

namespace BlockMount.Tests.Base;

/// <summary>Polling goes on while it finds requests and stops soon when it does not.</summary>
public sealed class AdaptivePollingTests
{
    private static readonly bool s_canPay = Environment.ProcessorCount > 1;

    [Fact]
    public void ShouldPoll_WhileItSucceeds_StaysTrue()
    {
        AdaptivePolling polling = new();
        for (int i = 0; i < 100; i++)
        {
            Assert.Equal(s_canPay, polling.ShouldPoll());
            polling.Succeeded();
        }
    }

    [Fact]
    public void ShouldPoll_AfterSomeFailures_IsTrueOnlyForProbes()
    {
        AdaptivePolling polling = new();
        for (int i = 0; i < 8; i++)
        {
            polling.Failed();
        }

        int polls = Enumerable.Range(0, AdaptivePolling.ProbeInterval * 10).Count(_ => polling.ShouldPoll());
        Assert.Equal(s_canPay ? 10 : 0, polls);
    }

    [Fact]
    public void ShouldPoll_AfterASuccessfulProbe_IsTrueAgain()
    {
        AdaptivePolling polling = new();
        for (int i = 0; i < 8; i++)
        {
            polling.Failed();
        }

        polling.Succeeded();
        Assert.Equal(s_canPay, polling.ShouldPoll());
    }
}
