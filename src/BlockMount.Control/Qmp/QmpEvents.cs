using BlockMount.Control.Json;

namespace BlockMount.Control.Qmp;

/// <summary>Passes events on to every monitor that has negotiated. Any thread.</summary>
public sealed class QmpEvents
{
    private readonly Lock _gate = new();
    private readonly List<Action<JsonObject>> _listeners = [];

    /// <summary>How many monitors listen.</summary>
    internal int ListenerCount
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
    /// Tells all listeners, one event after the other. When it returns, the event stands before whatever a monitor sends later.
    /// </summary>
    /// <param name="data">Null for events without data.</param>
    public void Emit(string name, JsonObject? data = null)
    {
        JsonObject message = new() { ["timestamp"] = Timestamp(DateTime.UtcNow), ["event"] = name };
        message.SetOptional("data", data);
        lock (_gate)
        {
            foreach (Action<JsonObject> listener in _listeners)
            {
                listener(message);
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

    private static JsonObject Timestamp(DateTime now)
    {
        long microseconds = (now - DateTime.UnixEpoch).Ticks / TimeSpan.TicksPerMicrosecond;
        return new JsonObject { ["seconds"] = microseconds / 1_000_000, ["microseconds"] = microseconds % 1_000_000 };
    }
}
