using BlockMount.Control.Commands;
using BlockMount.Control.Json;
using BlockMount.Control.Qmp;
using BlockMount.Control.Schema;

namespace BlockMount.Tests.Control.Qmp;

/// <summary>A session that has negotiated, with every command that is described; those without an implementation do nothing, and qom-get
/// returns a long string. Ended on disposal.</summary>
internal sealed class QmpEnd : IAsyncDisposable
{
    private const int LongLength = 100_000;

    private readonly Task _session;
    private int _commandCount;

    private QmpEnd(QmpPeer peer, QmpEvents events)
    {
        Peer = peer;
        Events = events;
        _session = ServeAsync();
    }

    /// <summary>The client's end.</summary>
    public QmpPeer Peer { get; }

    /// <summary>Where events come from.</summary>
    public QmpEvents Events { get; }

    /// <summary>Completes when the session has ended.</summary>
    public Task Session => _session;

    /// <summary>How many commands without an implementation were carried out.</summary>
    public int CommandCount => Volatile.Read(ref _commandCount);

    /// <param name="events">What several sessions share; its own by default.</param>
    public static async Task<QmpEnd> StartAsync(QmpEvents? events = null)
    {
        QmpEnd end = new(await QmpPeer.ConnectAsync(), events ?? new QmpEvents(CommandSchema.Own));
        _ = await end.Peer.ReceiveAsync();
        _ = await end.Peer.AskAsync("{'execute':'qmp_capabilities'}");
        return end;
    }

    public async ValueTask DisposeAsync()
    {
        Peer.Dispose();
        await _session.WaitAsync(TimeSpan.FromSeconds(20));
    }

    private async Task ServeAsync()
    {
        CommandTable commands = new(CommandSchema.Own, Events);
        ControlCommands.Register(commands, Events, new FakeHost());
        HashSet<string> present = [.. commands.Descriptions.Select(command => command.Name)];
        foreach (string name in CommandSchema.Own.Commands.Keys.Where(name => !present.Contains(name)))
        {
            commands.Register(name, (_, _) =>
            {
                _ = Interlocked.Increment(ref _commandCount);
                return new ValueTask<JsonValue?>(name == "qom-get" ? new JsonString(new string('x', LongLength)) : null);
            });
        }

        await new QmpSession(Peer.Server, commands, Events, ControlCommands.Version("0"), pretty: false).RunAsync(CancellationToken.None);
        await Peer.Server.DisposeAsync();
    }
}
