using BlockMount.Control.Json;
using BlockMount.Control.Schema;

namespace BlockMount.Control.Qmp;

/// <summary>Passes events on to every monitor that has negotiated. Any thread.</summary>
public sealed class QmpEvents
{
    private readonly CommandSchema _schema;
    private readonly TimeProvider _time;
    private readonly Lock _gate = new();

    // Guarded by _gate.
    private readonly List<Action<JsonObject>> _listeners = [];
    private readonly EventThrottle _throttle;

    /// <param name="schema">Describes every event that is emitted.</param>
    /// <param name="time">Stamps the events, and times those that are held back.</param>
    public QmpEvents(CommandSchema schema, TimeProvider? time = null)
    {
        _schema = schema;
        _time = time ?? TimeProvider.System;
        _throttle = new EventThrottle(_time, EmitDue);
    }

    /// <summary>How many monitors listen.</summary>
    public int ListenerCount
    {
        get
        {
            lock (_gate)
            {
                return _listeners.Count;
            }
        }
    }

    /// <summary>
    /// Tells all listeners, one event after the other; never waits for a client. When it returns, the event stands before whatever a monitor sends
    /// later. Events that are throttled may come later, or not at all.
    /// </summary>
    /// <param name="data">Null for events without data.</param>
    /// <exception cref="ArgumentException">The event is not described.</exception>
    public void Emit(string name, JsonObject? data = null)
    {
        if (!_schema.Events.ContainsKey(name))
        {
            throw new ArgumentException($"event '{name}' is not described");
        }

        JsonObject message = new() { ["timestamp"] = Timestamp(_time.GetUtcNow()), ["event"] = name };
        message.SetOptional("data", data);
        lock (_gate)
        {
            if (_throttle.Admits(name, message))
            {
                Tell(message);
            }
        }
    }

    /// <summary>From now on <paramref name="listener"/> gets events; it must not block or emit.</summary>
    internal void Add(Action<JsonObject> listener)
    {
        lock (_gate)
        {
            _listeners.Add(listener);
        }
    }

    internal void Remove(Action<JsonObject> listener)
    {
        lock (_gate)
        {
            _ = _listeners.Remove(listener);
        }
    }

    private void EmitDue(string source)
    {
        lock (_gate)
        {
            if (_throttle.TakeDue(source) is { } message)
            {
                Tell(message);
            }
        }
    }

    private void Tell(JsonObject message)
    {
        foreach (Action<JsonObject> listener in _listeners)
        {
            listener(message);
        }
    }

    private static JsonObject Timestamp(DateTimeOffset now)
    {
        long microseconds = (now - DateTimeOffset.UnixEpoch).Ticks / TimeSpan.TicksPerMicrosecond;
        return new JsonObject { ["seconds"] = microseconds / 1_000_000, ["microseconds"] = microseconds % 1_000_000 };
    }
}
