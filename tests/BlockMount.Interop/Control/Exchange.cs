using System.Text;
using System.Text.Json;
using BlockMount.Control.Json;
using BlockMount.TestSupport;

namespace BlockMount.Interop.Control;

/// <summary>
/// One scripted exchange with a monitor: what a client sends, piece by piece, and how what comes back is made comparable. Files of them lie in the folder
/// exchanges, one in a line: <c>{"name": ..., "negotiate": false, "send": [...]}</c>; without "negotiate" the negotiation is done before. Immutable.
/// </summary>
internal sealed class Exchange
{
    // A byte that begins no token ends whatever is open; an id tells the answer that all others come before.
    private static readonly byte[] s_end = "\n\u0001\n{'execute':'query-version','id':'end-of-exchange'}\n"u8.ToArray();

    private readonly string[] _send;
    private readonly bool _negotiate;

    public Exchange(string name, bool negotiate, IEnumerable<string> send)
    {
        Name = name;
        _negotiate = negotiate;
        _send = [.. send];
    }

    /// <summary>What it is about.</summary>
    public string Name { get; }

    /// <summary>All that is sent.</summary>
    public string Text => string.Concat(_send);

    /// <summary>The exchanges of a file.</summary>
    public static IReadOnlyList<Exchange> Read(string topic) =>
        [.. Lines(topic).Select(line => new Exchange(
            line.GetProperty("name").GetString()!,
            !line.TryGetProperty("negotiate", out JsonElement negotiate) || negotiate.GetBoolean(),
            line.GetProperty("send").EnumerateArray().Select(piece => piece.GetString()!)))];

    /// <summary>The lines of a file of the folder. Not read by our own reader, which refuses some of what they contain.</summary>
    public static IEnumerable<JsonElement> Lines(string topic) =>
        File.ReadLines(Path.Combine(SourceTree.Root, "tests/BlockMount.Interop/Control/exchanges", topic))
            .Where(line => line.Length > 0).Select(line => JsonDocument.Parse(line).RootElement);

    /// <summary>Has the exchange with a monitor that was just connected to.</summary>
    /// <returns>What came back, comparable, in its order.</returns>
    public async Task<IReadOnlyList<string>> HaveAsync(MonitorPeer peer)
    {
        _ = await peer.ReceiveAsync();
        if (_negotiate)
        {
            await peer.SendAsync("{'execute':'qmp_capabilities'}"u8.ToArray());
            _ = await peer.ReceiveAsync();
        }

        List<string> answers = [];
        try
        {
            foreach (string piece in _send)
            {
                await peer.SendAsync(Encoding.UTF8.GetBytes(piece));
            }

            await peer.SendAsync(s_end);
            while (await peer.ReceiveAsync() is var answer && !IsEnd(answer))
            {
                answers.Add(Comparable(answer));
            }
        }
        catch (Exception error) when (error is EndOfStreamException or IOException)
        {
            answers.Add("end of the stream");
        }

        // What the last byte of the exchange is answered with depends on where a monitor stops to read when it ends.
        return answers is [.., "end of the stream"] ? [.. answers.Where(answer => !answer.Contains("SHUTDOWN", StringComparison.Ordinal))] : answers;
    }

    private static bool IsEnd(JsonValue answer) => answer is JsonObject members && members.Text("id") == "end-of-exchange";

    /// <summary>Members in the order of their names, without moments and versions.</summary>
    private static string Comparable(JsonValue value) => value switch
    {
        JsonObject members => "{" + string.Join(", ", members.Members.OrderBy(member => member.Key, StringComparer.Ordinal)
            .Select(member => $"{member.Key}: {(member.Key is "timestamp" or "qemu" or "package" ? "-" : Comparable(member.Value))}")) + "}",
        JsonList items => "[" + string.Join(", ", items.Select(Comparable)) + "]",
        _ => value.ToString(),
    };
}
