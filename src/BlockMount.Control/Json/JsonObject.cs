using System.Diagnostics.CodeAnalysis;

namespace BlockMount.Control.Json;

/// <summary>Named values in the order in which they were added. See <see cref="JsonValue"/> for when it may change.</summary>
public sealed class JsonObject : JsonValue
{
    private readonly List<KeyValuePair<string, JsonValue>> _members = [];
    private readonly Dictionary<string, int> _places = new(StringComparer.Ordinal);

    /// <summary>How many members there are.</summary>
    public int Count => _members.Count;

    /// <summary>Gets a member that exists, or sets one: a new one comes last, an old one keeps its place.</summary>
    /// <exception cref="KeyNotFoundException">Getting a member that does not exist.</exception>
    public JsonValue this[string name]
    {
        get => _members[_places[name]].Value;
        set
        {
            KeyValuePair<string, JsonValue> member = new(name, value);
            if (_places.TryAdd(name, _members.Count))
            {
                _members.Add(member);
            }
            else
            {
                _members[_places[name]] = member;
            }
        }
    }

    /// <summary>Adds a member.</summary>
    /// <exception cref="ArgumentException">There is one of that name.</exception>
    public void Add(string name, JsonValue value)
    {
        _places.Add(name, _members.Count);
        _members.Add(new KeyValuePair<string, JsonValue>(name, value));
    }

    /// <summary>Sets a member unless the value is null, which stands for "left out".</summary>
    public void SetOptional(string name, JsonValue? value)
    {
        if (value is not null)
        {
            this[name] = value;
        }
    }

    /// <summary>True if there is a member of that name.</summary>
    public bool Contains(string name) => _places.ContainsKey(name);

    /// <summary>Looks a member up.</summary>
    public bool TryGet(string name, [NotNullWhen(true)] out JsonValue? value)
    {
        value = _places.TryGetValue(name, out int place) ? _members[place].Value : null;
        return value is not null;
    }

    /// <summary>The text of a string member; null if there is none, or it is no string.</summary>
    public string? Text(string name) => TryGet(name, out JsonValue? value) && value is JsonString text ? text.Value : null;

    /// <summary>The value of an integer member that fits; null if there is none.</summary>
    public long? Integer(string name) =>
        TryGet(name, out JsonValue? value) && value is JsonInteger { Value: var number } && number >= long.MinValue && number <= long.MaxValue
            ? (long)number
            : null;

    /// <summary>The value of a boolean member; null if there is none.</summary>
    public bool? Flag(string name) => TryGet(name, out JsonValue? value) && value is JsonBool flag ? flag.Value : null;

    /// <summary>A member that is an object; null if there is none.</summary>
    public JsonObject? Object(string name) => TryGet(name, out JsonValue? value) ? value as JsonObject : null;

    /// <summary>A member that is a list; null if there is none.</summary>
    public JsonList? List(string name) => TryGet(name, out JsonValue? value) ? value as JsonList : null;

    /// <summary>The members in their order.</summary>
    public IReadOnlyList<KeyValuePair<string, JsonValue>> Members => _members;

    /// <summary>The members in their order, for foreach.</summary>
    public List<KeyValuePair<string, JsonValue>>.Enumerator GetEnumerator() => _members.GetEnumerator();
}
