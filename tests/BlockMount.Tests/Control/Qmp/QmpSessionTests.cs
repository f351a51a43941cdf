using BlockMount.Control.Commands;
using BlockMount.Control.Json;
using BlockMount.Control.Qmp;
using BlockMount.Control.Schema;
using Xunit;

namespace BlockMount.Tests.Control.Qmp;

/// <summary>The machine protocol, from the greeting to the end of the stream.</summary>
public sealed class QmpSessionTests
{
    private const string Negotiation = """{"execute":"qmp_capabilities"}""";

    private static readonly CommandSchema s_schema = CommandSchema.OwnAnd("""
        command test-slow
          n: int
        command test-wait
        command test-open oob
        command test-emit
        command test-fail
        command test-flood
        event TEST_FLOOD
          filler: str
        """);

    private readonly QmpEvents _events = new(s_schema);
    private readonly CommandTable _commands;

    public QmpSessionTests()
    {
        _commands = new CommandTable(s_schema, _events);
        ControlCommands.Register(_commands, _events, new FakeHost());
    }

    [Fact]
    public async Task NothingIsTakenBeforeTheNegotiation()
    {
        using Session session = await StartAsync();
        Assert.Contains("\"capabilities\": [\"oob\"]", session.Greeting, StringComparison.Ordinal);
        _events.Emit("STOP");
        Assert.Equal(
            """{"error": {"class": "CommandNotFound", "desc": "Expecting capabilities negotiation with 'qmp_capabilities'"}}""",
            await session.Peer.AskAsync("""{"execute":"query-version"}"""));
        Assert.Equal("""{"return": {}, "id": 1}""", await session.Peer.AskAsync("""{"execute":"qmp_capabilities","id":1}"""));
        Assert.Equal(
            """{"id": [2], "error": {"class": "CommandNotFound", "desc": "Capabilities negotiation is already complete, command ignored"}}""",
            await session.Peer.AskAsync("""{"execute":"qmp_capabilities","id":[2]}"""));
    }

    [Theory]
    [InlineData("[]", "QMP input must be a JSON object")]
    [InlineData("""{"execute":5}""", "QMP input member 'execute' must be a string")]
    [InlineData("""{"execute":"x","arguments":[]}""", "QMP input member 'arguments' must be an object")]
    [InlineData("""{"bogus":1,"execute":"x"}""", "QMP input member 'bogus' is unexpected")]
    [InlineData("""{"exec-oob":"x"}""", "QMP input member 'exec-oob' is unexpected")]
    [InlineData("{}", "QMP input lacks member 'execute'")]
    [InlineData("""{"execute":"query-version","arguments":{"z":1}}""", "Parameter 'z' is unexpected")]
    [InlineData("{x", "JSON parse error, expecting value")]
    public async Task SaysWhatIsWrongWithAMessage(string message, string text)
    {
        using Session session = await NegotiatedAsync();
        JsonObject answer = (JsonObject)JsonReader.Parse(await session.Peer.AskAsync(message + (message == "{x" ? "}" : "")));
        Assert.Contains(answer.Object("error")!.Text("desc"), new[] { text, "JSON parse error, key is not a string in object", "JSON parse error, invalid keyword 'x'" });
    }

    [Fact]
    public async Task CommandsOfAClientAreCarriedOutInTheirOrder()
    {
        List<long> order = [];
        _commands.Register("test-slow", async arguments =>
        {
            await Task.Delay(1);
            order.Add(arguments.Integer("n")!.Value);
            return CommandTable.Nothing;
        });
        using Session session = await NegotiatedAsync();
        session.Peer.Send(string.Concat(Enumerable.Range(0, 100).Select(n => $$$"""{"execute":"test-slow","arguments":{"n":{{{n}}}},"id":{{{n}}}}""")));
        for (int n = 0; n < 100; n++)
        {
            Assert.Equal($$$"""{"return": {}, "id": {{{n}}}}""", (await session.Peer.ReceiveAsync())!.ToString());
        }

        Assert.Equal(Enumerable.Range(0, 100).Select(n => (long)n), order);
    }

    [Fact]
    public async Task OutOfBandCommandsOvertake()
    {
        TaskCompletionSource gate = new();
        _commands.Register("test-wait", async _ =>
        {
            await gate.Task;
            return CommandTable.Nothing;
        });
        _commands.Register("test-open", _ => gate.SetResult());
        using Session session = await StartAsync();
        session.Peer.Send("""{"execute":"qmp_capabilities","arguments":{"enable":["oob"]}} {"execute":"test-wait","id":1} {"exec-oob":"query-version","id":2} {"exec-oob":"test-open","id":3}""");
        Assert.Equal("""{"return": {}}""", (await session.Peer.ReceiveAsync())!.ToString());
        Assert.Equal("""{"id": 2, "error": {"class": "GenericError", "desc": "The command query-version does not support OOB"}}""", (await session.Peer.ReceiveAsync())!.ToString());
        string[] rest = [(await session.Peer.ReceiveAsync())!.ToString(), (await session.Peer.ReceiveAsync())!.ToString()];
        Assert.Equal(["""{"return": {}, "id": 1}""", """{"return": {}, "id": 3}"""], rest.Order(StringComparer.Ordinal));
    }

    [Fact]
    public async Task AnEventOfACommandComesBeforeItsReply()
    {
        _commands.Register("test-emit", _ => _events.Emit("RESUME"));
        using Session session = await NegotiatedAsync();
        using Session other = await NegotiatedAsync();
        for (int i = 0; i < 100; i++)
        {
            session.Peer.Send("""{"execute":"test-emit"}""");
            Assert.Equal("RESUME", (await session.Peer.ReceiveAsync())!.Text("event"));
            Assert.Equal("""{"return": {}}""", (await session.Peer.ReceiveAsync())!.ToString());
            Assert.Equal("RESUME", (await other.Peer.ReceiveAsync())!.Text("event"));
        }
    }

    [Fact]
    public async Task AFailureOfAnyKindIsAnAnswer()
    {
        _commands.Register("test-fail", (_, _) => throw new InvalidOperationException("broken"));
        using Session session = await NegotiatedAsync();
        Assert.Equal("""{"error": {"class": "GenericError", "desc": "broken"}}""", await session.Peer.AskAsync("""{"execute":"test-fail"}"""));
        Assert.StartsWith("""{"return": """, await session.Peer.AskAsync("""{"execute":"query-version"}"""), StringComparison.Ordinal);
    }

    [Fact]
    public async Task WhatWasBegunIsAnsweredBeforeTheEnd()
    {
        using Session session = await NegotiatedAsync();
        session.Peer.Send("""{"execute":"query-version","id":7}""");
        session.Peer.CloseSending();
        Assert.EndsWith("\"id\": 7}", (await session.Peer.ReceiveAsync())!.ToString(), StringComparison.Ordinal);
        Assert.Null(await session.Peer.ReceiveAsync());
        await session.Ended;
    }

    [Fact]
    public async Task ADisconnectInTheMiddleOfAMessageEndsTheSession()
    {
        byte[] text = System.Text.Encoding.UTF8.GetBytes(Negotiation + """{"execute":"query-qmp-schema","arguments":{}}""");
        for (int length = 1; length < text.Length; length++)
        {
            Session session = await StartAsync();
            session.Peer.Send(System.Text.Encoding.UTF8.GetString(text, 0, length));
            session.Peer.Dispose();
            await session.Ended.WaitAsync(TimeSpan.FromSeconds(20));
        }
    }

    private async Task<Session> NegotiatedAsync()
    {
        Session session = await StartAsync();
        Assert.Equal("""{"return": {}}""", await session.Peer.AskAsync(Negotiation));
        return session;
    }

    private async Task<Session> StartAsync()
    {
        QmpPeer peer = await QmpPeer.ConnectAsync();
        Task ended = ServeAsync(peer);
        return new Session(peer, ended, (await peer.ReceiveAsync())!.ToString());
    }

    private async Task ServeAsync(QmpPeer peer)
    {
        await new QmpSession(peer.Server, _commands, _events, ControlCommands.Version("0.0.1"), pretty: false).RunAsync(CancellationToken.None);
        await peer.Server.DisposeAsync();
    }

    private sealed record Session(QmpPeer Peer, Task Ended, string Greeting) : IDisposable
    {
        public void Dispose() => Peer.Dispose();
    }
}
