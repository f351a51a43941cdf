using BlockMount.Control.Json;

namespace BlockMount.Control.Qmp;

/// <summary>
/// Lets some events through at most once a second, as QEMU does: the first at once, then the last of each second. What differs in the members that
/// identify its source does not hold back each other. Used by <see cref="QmpEvents"/> under its lock.
/// </summary>
internal sealed class EventThrottle
{
    private static readonly TimeSpan s_period = TimeSpan.FromSeconds(1);
    private static readonly Dictionary<string, string[]> s_sources = new(StringComparer.Ordinal)
    {
        ["BLOCK_IO_ERROR"] = ["device", "node-name"],
    };

    private readonly TimeProvider _time;
    private readonly Action<string> _due;

    // By source. The value is what waits: null when nothing came since the last one was let through.
    private readonly Dictionary<string, (JsonObject? Waiting, ITimer Timer)> _sources = new(StringComparer.Ordinal);

    /// <param name="due">Called from a timer's thread, without a lock, when the second of a source is over; leads to <see cref="TakeDue"/>.</param>
    public EventThrottle(TimeProvider time, Action<string> due)
    {
        _time = time;
        _due = due;
    }

    /// <summary>True if the event goes out now; otherwise it waits, in place of one that waited.</summary>
    public bool Admits(string name, JsonObject message)
    {
        // A device that stops must be told of at once: nothing follows until somebody acts.
        if (!s_sources.TryGetValue(name, out string[]? members) || message.Object("data")?.Text("action") == "stop")
        {
            return true;
        }

        string source = name + '\n' + string.Join('\n', members.Select(member => message.Object("data")?.Text(member)));
        if (_sources.TryGetValue(source, out (JsonObject? Waiting, ITimer Timer) state))
        {
            _sources[source] = (message, state.Timer);
            return false;
        }

        _sources.Add(source, (null, _time.CreateTimer(_ => _due(source), null, s_period, Timeout.InfiniteTimeSpan)));
        return true;
    }

    /// <summary>What has waited for the end of this source's second; null, and the source is forgotten, if nothing has.</summary>
    public JsonObject? TakeDue(string source)
    {
        if (!_sources.TryGetValue(source, out (JsonObject? Waiting, ITimer Timer) state))
        {
            return null;
        }

        if (state.Waiting is null)
        {
            state.Timer.Dispose();
            _ = _sources.Remove(source);
            return null;
        }

        _sources[source] = (null, state.Timer);
        _ = state.Timer.Change(s_period, Timeout.InfiniteTimeSpan);
        return state.Waiting;
    }
}
