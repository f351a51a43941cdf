using BlockMount.Control.Json;

namespace BlockMount.Control.Client;

/// <summary>
/// Completes lines of the short form (<see cref="ShellLine"/>) from a monitor's own answer to query-qmp-schema: commands, their members along dotted keys,
/// and words that a member may be. Immutable.
/// </summary>
public sealed class SchemaCompletion
{
    private readonly Dictionary<string, JsonObject> _entries;
    private readonly string[] _commands;

    /// <param name="schema">What query-qmp-schema returned.</param>
    public SchemaCompletion(JsonList schema)
    {
        _entries = schema.OfType<JsonObject>().GroupBy(entry => entry.Text("name") ?? "").ToDictionary(group => group.Key, group => group.First(), StringComparer.Ordinal);
        _commands = [.. _entries.Values.Where(entry => entry.Text("meta-type") == "command").Select(entry => entry.Text("name")!).Order(StringComparer.Ordinal)];
    }

    /// <summary>Words that could stand in place of the last word of the text.</summary>
    public IReadOnlyList<string> Complete(string text)
    {
        string[] words = text.Split(' ');
        string last = words[^1];
        if (words.Length == 1)
        {
            return [.. _commands.Where(name => name.StartsWith(last, StringComparison.Ordinal))];
        }

        if (!_entries.TryGetValue(words[0], out JsonObject? command) || command.Text("arg-type") is not { } arguments)
        {
            return [];
        }

        Dictionary<string, string> given = Given(words[1..^1]);
        int sign = last.IndexOf('=', StringComparison.Ordinal);
        return sign < 0
            ? [.. Keys(arguments, "", last, given).Where(key => !given.ContainsKey(key.TrimEnd('='))).Order(StringComparer.Ordinal)]
            : [.. Words(arguments, last[..sign], given).Where(word => word.StartsWith(last[(sign + 1)..], StringComparison.Ordinal)).Select(word => last[..(sign + 1)] + word)];
    }

    private static Dictionary<string, string> Given(IEnumerable<string> words)
    {
        Dictionary<string, string> given = new(StringComparer.Ordinal);
        foreach (string word in words)
        {
            int sign = word.IndexOf('=', StringComparison.Ordinal);
            if (sign > 0)
            {
                given[word[..sign]] = word[(sign + 1)..];
            }
        }

        return given;
    }

    // Keys below a type: "name=" for a leaf, "name." for what has members.
    private IEnumerable<string> Keys(string type, string path, string start, Dictionary<string, string> given)
    {
        foreach (JsonObject member in Members(type, path, given))
        {
            string key = path + member.Text("name");
            string? inside = ObjectOf(member.Text("type")!);
            if (inside is not null && start.StartsWith(key + ".", StringComparison.Ordinal))
            {
                foreach (string longer in Keys(inside, key + ".", start, given))
                {
                    yield return longer;
                }
            }
            else if (key.StartsWith(start, StringComparison.Ordinal))
            {
                yield return key + (inside is not null && Values(member.Text("type")!).Count == 0 && !IsAlternate(member.Text("type")!) ? "." : "=");
            }
        }
    }

    private List<string> Words(string type, string key, Dictionary<string, string> given)
    {
        string path = "";
        string[] names = key.Split('.');
        foreach (string name in names[..^1])
        {
            string? next = MemberType(type, path, name, given) is { } member ? ObjectOf(member) : null;
            if (next is null)
            {
                return [];
            }

            (type, path) = (next, $"{path}{name}.");
        }

        return MemberType(type, path, names[^1], given) is { } leaf ? Values(leaf) : [];
    }

    private string? MemberType(string type, string path, string name, Dictionary<string, string> given) =>
        Members(type, path, given).FirstOrDefault(member => member.Text("name") == name)?.Text("type");

    // With those of the variant, if the line has chosen one already.
    private IEnumerable<JsonObject> Members(string type, string path, Dictionary<string, string> given)
    {
        if (!_entries.TryGetValue(type, out JsonObject? entry))
        {
            return [];
        }

        IEnumerable<JsonObject> members = (entry.List("members") ?? new JsonList()).OfType<JsonObject>();
        string? chosen = entry.Text("tag") is { } tag && given.TryGetValue(path + tag, out string? word)
            ? (entry.List("variants") ?? new JsonList()).OfType<JsonObject>().FirstOrDefault(variant => variant.Text("case") == word)?.Text("type")
            : null;
        return chosen is null ? members : members.Concat(Members(chosen, path, given));
    }

    // The type itself, or the choice of an alternate that has members; null if there is none.
    private string? ObjectOf(string type) => MetaType(type) switch
    {
        "object" => type,
        "alternate" => Choices(type).FirstOrDefault(choice => MetaType(choice) == "object"),
        _ => null,
    };

    private List<string> Values(string type) => MetaType(type) switch
    {
        "enum" => [.. _entries[type].List("values")!.OfType<JsonString>().Select(value => value.Value)],
        "builtin" when type == "bool" => ["false", "true"],
        "alternate" => [.. Choices(type).SelectMany(Values)],
        _ => [],
    };

    private IEnumerable<string> Choices(string type) => _entries[type].List("members")!.OfType<JsonObject>().Select(member => member.Text("type")!);

    private bool IsAlternate(string type) => MetaType(type) == "alternate";

    private string? MetaType(string type) => _entries.TryGetValue(type, out JsonObject? entry) ? entry.Text("meta-type") : null;
}
