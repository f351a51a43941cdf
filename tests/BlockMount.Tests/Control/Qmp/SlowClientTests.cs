using BlockMount.Control.Json;
using BlockMount.Control.Qmp;
using BlockMount.Control.Schema;
using Xunit;

namespace BlockMount.Tests.Control.Qmp;

/// <summary>Clients that do not read what they are told.</summary>
public sealed class SlowClientTests
{
    private static readonly JsonObject s_large = new() { ["id"] = new string('x', 1 << 20) };

    [Fact]
    public async Task OneThatLetsEventsPileUpIsCutOffAndTheOthersGoOn()
    {
        QmpEvents events = new(CommandSchema.Own);
        await using QmpEnd slow = await QmpEnd.StartAsync(events);
        await using QmpEnd other = await QmpEnd.StartAsync(events);
        int sent = 0;
        // What the kernel's buffers hold comes on top of the limit.
        for (; sent < 200 && !slow.Session.IsCompleted; sent++)
        {
            events.Emit("BLOCK_EXPORT_DELETED", s_large);
            Assert.Equal("BLOCK_EXPORT_DELETED", (await other.Peer.ReceiveAsync())!.Text("event"));
            await Task.Yield();
        }

        await slow.Session.WaitAsync(TimeSpan.FromSeconds(20));
        Assert.InRange(sent, (int)(QmpOutput.BytesMax >> 20), 200);
        Assert.StartsWith("{\"return\"", await other.Peer.AskAsync("{'execute':'query-version'}"), StringComparison.Ordinal);
        Assert.Equal(1, events.ListenerCount);
    }

    [Fact]
    public async Task OneThatDoesNotReadAnswersGetsNoFurtherCommandsCarriedOut()
    {
        const int Commands = 300;
        await using QmpEnd slow = await QmpEnd.StartAsync();
        const string Request = "{'execute':'qom-get','arguments':{'path':'p','property':'q'}}";
        slow.Peer.Send(string.Concat(Enumerable.Repeat(Request, Commands)));
        await Task.Delay(300);
        // 30 MB in all: far more than the limit and the kernel's buffers.
        Assert.InRange(slow.CommandCount, 1, Commands - 50);
        Assert.False(slow.Session.IsCompleted);
        for (int i = 0; i < Commands; i++)
        {
            Assert.NotNull((await slow.Peer.ReceiveAsync())!.Text("return"));
        }

        Assert.Equal(Commands, slow.CommandCount);
    }
}
