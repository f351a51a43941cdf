using System.Collections;

namespace BlockMount.Control.Json;

/// <summary>A list of values. See <see cref="JsonValue"/> for when it may change.</summary>
public sealed class JsonList : JsonValue, IReadOnlyList<JsonValue>
{
    private readonly List<JsonValue> _items = [];

    /// <summary>An empty list; fill it with <see cref="Add"/>.</summary>
    public JsonList()
    {
    }

    /// <summary>A list of these values.</summary>
    public JsonList(IEnumerable<JsonValue> items) => _items.AddRange(items);

    /// <inheritdoc/>
    public int Count => _items.Count;

    /// <inheritdoc/>
    public JsonValue this[int index] => _items[index];

    /// <summary>Adds a value at the end.</summary>
    public void Add(JsonValue item) => _items.Add(item);

    /// <inheritdoc/>
    public IEnumerator<JsonValue> GetEnumerator() => _items.GetEnumerator();

    IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();
}
