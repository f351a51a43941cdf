using BlockMount.Control.Commands;
using BlockMount.Control.Json;
using BlockMount.Control.Qmp;
using Xunit;

namespace BlockMount.Tests.Control.Qmp;

/// <summary>A client that does not read what it is told.</summary>
public sealed class SlowClientTests
{
    private static readonly JsonObject s_large = new() { ["id"] = new string('x', 1 << 20) };

    [Fact]
    public async Task OneThatLetsEventsPileUpIsCutOff()
    {
        QmpEvents events = new();
        CommandTable commands = new();
        ControlCommands.Register(commands, events, new FakeHost());
        using QmpPeer peer = await QmpPeer.ConnectAsync();
        Task session = new QmpSession(peer.Server, commands, events, ControlCommands.Version("0.0.1"), pretty: false).RunAsync(CancellationToken.None);
        _ = await peer.ReceiveAsync();
        Assert.Equal("""{"return": {}}""", await peer.AskAsync("""{"execute":"qmp_capabilities"}"""));
        int sent = 0;
        // What the kernel's buffers hold comes on top of the limit.
        for (; sent < 200 && !session.IsCompleted && events.ListenerCount > 0; sent++)
        {
            events.Emit("BLOCK_EXPORT_DELETED", s_large);
            await Task.Delay(1);
        }

        await session.WaitAsync(TimeSpan.FromSeconds(20));
        Assert.InRange(sent, (int)(QmpOutput.BytesMax >> 20), 199);
        Assert.Equal(0, events.ListenerCount);
    }
}
