using System.Globalization;
using BlockMount.Control.Json;

namespace BlockMount.Control.Schema;

/// <summary>Dotted keys as they come, and the objects and lists that they make in the end. One use, one thread.</summary>
internal sealed class KeyvalTree
{
    private readonly Dictionary<string, JsonValue> _leaves = new(StringComparer.Ordinal);
    private readonly Dictionary<string, KeyvalTree> _inner = new(StringComparer.Ordinal);
    private readonly List<string> _order = [];

    /// <summary>Sets a leaf.</summary>
    /// <param name="key">The path as it was written, for errors.</param>
    /// <exception cref="CommandException">There is an object where the leaf would be, or a leaf on the way.</exception>
    public void Set(ReadOnlySpan<string> path, string key, string value) => Set(path, 1, key, value);

    /// <summary>What the keys stand for.</summary>
    /// <exception cref="CommandException">A list has holes, or its indices are mixed with names.</exception>
    public JsonObject ToObject()
    {
        JsonObject result = new();
        foreach (string name in _order)
        {
            result.Add(name, Child(name, name));
        }

        return result;
    }

    private void Set(ReadOnlySpan<string> path, int depth, string key, string value)
    {
        string name = path[depth - 1];
        bool isLast = depth == path.Length;
        if (isLast ? _inner.ContainsKey(name) : _leaves.ContainsKey(name))
        {
            throw Inconsistent(string.Join('.', path[..depth].ToArray()));
        }

        if (!_leaves.ContainsKey(name) && !_inner.ContainsKey(name))
        {
            _order.Add(name);
        }

        if (isLast)
        {
            _leaves[name] = value;
            return;
        }

        if (!_inner.TryGetValue(name, out KeyvalTree? inner))
        {
            inner = new KeyvalTree();
            _inner.Add(name, inner);
        }

        inner.Set(path, depth + 1, key, value);
    }

    private JsonValue Child(string name, string path) => _leaves.TryGetValue(name, out JsonValue? leaf) ? leaf : _inner[name].ToValue(path);

    private JsonValue ToValue(string path)
    {
        int indices = _order.Count(name => char.IsAsciiDigit(name[0]));
        if (indices == 0)
        {
            JsonObject members = new();
            foreach (string name in _order)
            {
                members.Add(name, Child(name, $"{path}.{name}"));
            }

            return members;
        }

        return indices == _order.Count ? ToList(path) : throw Inconsistent(path);
    }

    private JsonList ToList(string path)
    {
        SortedDictionary<int, string> byIndex = [];
        foreach (string name in _order)
        {
            // "1" and "01" are the same item; the later one wins.
            byIndex[int.Parse(name, CultureInfo.InvariantCulture)] = name;
        }

        JsonList list = new();
        foreach ((int index, string name) in byIndex)
        {
            if (index != list.Count)
            {
                throw new CommandException($"Parameter '{path}.{list.Count}' missing");
            }

            list.Add(Child(name, $"{path}.{name}"));
        }

        return list;
    }

    private static CommandException Inconsistent(string path) => new($"Parameters '{path}.*' used inconsistently");
}
