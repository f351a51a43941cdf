using System.Threading.Channels;
using BlockMount.Control.Json;
using BlockMount.Control.Schema;

namespace BlockMount.Control.Qmp;

/// <summary>
/// One client of the machine protocol, from the greeting to the end of its stream. Commands of one client are carried out in their order; a few
/// wait while one runs, then reading stops. Out-of-band commands overtake them.
/// </summary>
internal sealed class QmpSession
{
    /// <summary>Commands that may wait while one runs.</summary>
    public const int WaitingMax = 8;

    private const string Negotiation = "qmp_capabilities";
    private const int ReadBytes = 16 << 10;
    private static readonly TimeSpan s_lastWords = TimeSpan.FromSeconds(2);

    private readonly Stream _stream;
    private readonly QmpOutput _output;
    private readonly CommandTable _commands;
    private readonly QmpEvents _events;
    private readonly JsonObject _version;
    private readonly Channel<QmpRequest> _waiting = Channel.CreateBounded<QmpRequest>(WaitingMax);

    // The reader's. Until the negotiation has ended it carries commands out itself, so whatever a client sends behind it meets its outcome.
    private readonly List<(JsonValue? Value, string? Error)> _received = [];
    private bool _negotiated;
    private bool _outOfBand;

    /// <param name="stream">To and from the client; still the caller's.</param>
    /// <param name="version">What query-version returns.</param>
    public QmpSession(Stream stream, CommandTable commands, QmpEvents events, JsonObject version, bool pretty)
    {
        _stream = stream;
        _commands = commands;
        _events = events;
        _version = version;
        _output = new QmpOutput(stream, pretty);
    }

    /// <summary>Serves until the client is gone or <paramref name="cancel"/>; commands that were begun end, and their answers are sent.</summary>
    public async Task RunAsync(CancellationToken cancel)
    {
        using CancellationTokenSource ended = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        _output.Broken = () => _ = ended.CancelAsync();
        _output.Send(new JsonObject
        {
            ["QMP"] = new JsonObject { ["version"] = _version, ["capabilities"] = new JsonList(["oob"]) },
        });
        Task worker = WorkAsync(ended.Token);
        try
        {
            await ReceiveAsync(ended.Token);
        }
        catch (Exception error) when (error is IOException or ObjectDisposedException or OperationCanceledException)
        {
            // The client is gone, or we are to end.
        }
        finally
        {
            _ = _waiting.Writer.TryComplete();
            await worker;
            _events.Remove(_output.Send);
            await _output.FinishAsync(s_lastWords);
        }
    }

    private async Task ReceiveAsync(CancellationToken cancel)
    {
        JsonReader reader = new((value, error) => _received.Add((value, error)));
        byte[] buffer = new byte[ReadBytes];
        while (await _stream.ReadAsync(buffer, cancel) is var count and > 0)
        {
            reader.Feed(buffer.AsSpan(0, count));
            foreach ((JsonValue? value, string? error) in _received)
            {
                await AcceptAsync(value is null ? QmpRequest.Bad(error!) : QmpRequest.Of(value, _outOfBand), cancel);
            }

            _received.Clear();
        }
    }

    private async ValueTask AcceptAsync(QmpRequest request, CancellationToken cancel)
    {
        if (request.OutOfBand || !_negotiated)
        {
            await AnswerAsync(request);
        }
        else
        {
            await _waiting.Writer.WriteAsync(request, cancel);
        }
    }

    private async Task WorkAsync(CancellationToken cancel)
    {
        try
        {
            await foreach (QmpRequest request in _waiting.Reader.ReadAllAsync(cancel))
            {
                await AnswerAsync(request);
                await _output.RoomAsync(cancel);
            }
        }
        catch (OperationCanceledException)
        {
            // What waits is not begun any more.
        }
    }

    private async ValueTask AnswerAsync(QmpRequest request)
    {
        try
        {
            if (request.Error is not null)
            {
                throw new CommandException(request.Error);
            }

            _output.Send(request.Success(await ExecuteAsync(request)));
        }
        catch (CommandException error)
        {
            _output.Send(request.Failure(error));
        }
    }

    private ValueTask<JsonValue> ExecuteAsync(QmpRequest request)
    {
        string command = request.Command!;
        if (command == Negotiation)
        {
            Negotiate(request.Arguments);
            return new ValueTask<JsonValue>(CommandTable.Nothing);
        }

        if (!_negotiated)
        {
            throw new CommandException("Expecting capabilities negotiation with 'qmp_capabilities'", CommandException.CommandNotFound);
        }

        return request.OutOfBand ? _commands.ExecuteOutOfBandAsync(command, request.Arguments) : _commands.ExecuteAsync(command, request.Arguments);
    }

    private void Negotiate(JsonObject arguments)
    {
        ArgumentCheck.Check(_commands.Schema.Commands[Negotiation].Arguments, arguments);
        if (_negotiated)
        {
            throw new CommandException("Capabilities negotiation is already complete, command ignored", CommandException.CommandNotFound);
        }

        _outOfBand = arguments.List("enable") is { Count: > 0 };
        _negotiated = true;
        _events.Add(_output.Send);
    }
}
