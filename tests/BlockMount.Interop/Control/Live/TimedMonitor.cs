using System.Diagnostics;
using System.Net.Sockets;
using BlockMount.Control.Client;
using BlockMount.Control.Json;

namespace BlockMount.Interop.Control.Live;

/// <summary>A client of a QMP monitor that remembers how long each reply took. One thread.</summary>
internal sealed class TimedMonitor(string path) : IDisposable
{
    private readonly QmpClient _client = QmpClient.Connect(new UnixDomainSocketEndPoint(path));

    /// <summary>Milliseconds of every reply, in the order of the commands.</summary>
    public List<double> Replies { get; } = [];

    /// <summary>Carries a command out that must succeed.</summary>
    /// <exception cref="BlockMount.Control.Schema.CommandException">It did not.</exception>
    public JsonValue Execute(string command, JsonObject? arguments = null)
    {
        long begun = Stopwatch.GetTimestamp();
        JsonValue result = _client.Execute(command, arguments ?? new JsonObject());
        Replies.Add(Stopwatch.GetElapsedTime(begun).TotalMilliseconds);
        return result;
    }

    public void Dispose() => _client.Dispose();
}
