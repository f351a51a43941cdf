using BlockMount.Control.Json;

namespace BlockMount.Control.Commands;

/// <summary>An object beside the nodes: a secret, limits, a thread.</summary>
/// <param name="Id">Its name.</param>
/// <param name="Kind">"secret", "throttle-group" or "iothread".</param>
/// <param name="Properties">What qom-list lists and qom-get gets, with the types of the wire.</param>
internal sealed record StoredObject(string Id, string Kind, IReadOnlyList<ObjectProperty> Properties);

/// <summary>A property of an object.</summary>
/// <param name="Get">Its value now.</param>
internal sealed record ObjectProperty(string Name, string Type, Func<JsonValue> Get);

/// <summary>The objects of a daemon by their ids. Commands only, which run one at a time.</summary>
public sealed class ObjectStore
{
    private readonly List<StoredObject> _objects = [];

    /// <summary>In the order in which they were made.</summary>
    internal IReadOnlyList<StoredObject> Objects => _objects;

    /// <summary>The object of that id; null if there is none.</summary>
    internal StoredObject? TryFind(string id) => _objects.Find(candidate => candidate.Id == id);

    /// <summary>Adds an object whose id is free.</summary>
    internal void Add(StoredObject added) => _objects.Add(added);

    /// <summary>Forgets an object.</summary>
    internal void Remove(StoredObject removed) => _ = _objects.Remove(removed);
}
