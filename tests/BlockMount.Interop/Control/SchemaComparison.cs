using BlockMount.Control.Json;

namespace BlockMount.Interop.Control;

/// <summary>
/// Compares two answers of query-qmp-schema by structure: what commands and events take and return, whatever the types are called. One use.
/// </summary>
internal sealed class SchemaComparison
{
    private readonly Dictionary<string, JsonObject> _ours;
    private readonly Dictionary<string, JsonObject> _theirs;
    private readonly HashSet<(string, string)> _seen = [];
    private readonly List<string> _differences = [];

    private SchemaComparison(JsonList ours, JsonList theirs)
    {
        _ours = Index(ours);
        _theirs = Index(theirs);
    }

    /// <summary>One line for each place that differs, from our point of view.</summary>
    public static IReadOnlyList<string> Compare(JsonList ours, JsonList theirs)
    {
        SchemaComparison comparison = new(ours, theirs);
        foreach ((string name, JsonObject entry) in comparison._ours.Where(entry => entry.Value.Text("meta-type") is "command" or "event"))
        {
            comparison.CompareEntry(name, entry);
        }

        return comparison._differences;
    }

    private static Dictionary<string, JsonObject> Index(JsonList schema) => schema.Cast<JsonObject>().ToDictionary(entry => entry.Text("name")!);

    private void CompareEntry(string name, JsonObject ours)
    {
        if (!_theirs.TryGetValue(name, out JsonObject? theirs))
        {
            _differences.Add($"{name}: only here");
            return;
        }

        CompareTypes($"{name}", ours.Text("arg-type")!, theirs.Text("arg-type")!);
        if (ours.Text("ret-type") is { } result)
        {
            CompareTypes($"{name}->", result, theirs.Text("ret-type")!);
        }

        Same($"{name} features", Features(ours), Features(theirs));
        Same($"{name} allow-oob", ours.Flag("allow-oob")?.ToString() ?? "", theirs.Flag("allow-oob")?.ToString() ?? "");
    }

    private void CompareTypes(string path, string ourName, string theirName)
    {
        if (!_seen.Add((ourName, theirName)))
        {
            return;
        }

        JsonObject ours = _ours[ourName];
        JsonObject theirs = _theirs[theirName];
        if (ours.Text("meta-type") != theirs.Text("meta-type"))
        {
            _differences.Add($"{path}: {ours.Text("meta-type")}, theirs {theirs.Text("meta-type")}");
            return;
        }

        switch (ours.Text("meta-type"))
        {
            case "builtin":
                Same(path, ours.Text("json-type")!, theirs.Text("json-type")!);
                break;
            case "enum":
                Sets(path, ours.List("values")!.Select(value => ((JsonString)value).Value), theirs.List("values")!.Select(value => ((JsonString)value).Value));
                break;
            case "array":
                CompareTypes(path + "[]", ours.Text("element-type")!, theirs.Text("element-type")!);
                break;
            case "alternate":
                CompareAlternates(path, ours, theirs);
                break;
            default:
                CompareObjects(path, ours, theirs);
                break;
        }
    }

    private void CompareAlternates(string path, JsonObject ours, JsonObject theirs)
    {
        Dictionary<string, string> right = theirs.List("members")!.Cast<JsonObject>().ToDictionary(member => Kind(_theirs, member), member => member.Text("type")!);
        Dictionary<string, string> left = ours.List("members")!.Cast<JsonObject>().ToDictionary(member => Kind(_ours, member), member => member.Text("type")!);
        foreach (string kind in Sets(path, left.Keys, right.Keys))
        {
            CompareTypes(path, left[kind], right[kind]);
        }
    }

    private static string Kind(Dictionary<string, JsonObject> types, JsonObject member)
    {
        JsonObject type = types[member.Text("type")!];
        return type.Text("json-type") ?? type.Text("meta-type")!;
    }

    private void CompareObjects(string path, JsonObject ours, JsonObject theirs)
    {
        Dictionary<string, JsonObject> left = Index(ours.List("members")!);
        Dictionary<string, JsonObject> right = Index(theirs.List("members")!);
        foreach (string name in Sets(path, left.Keys, right.Keys))
        {
            Same($"{path}.{name} optional", left[name].Contains("default").ToString(), right[name].Contains("default").ToString());
            Same($"{path}.{name} features", Features(left[name]), Features(right[name]));
            CompareTypes($"{path}.{name}", left[name].Text("type")!, right[name].Text("type")!);
        }

        Same($"{path} features", Features(ours), Features(theirs));
        Same($"{path} tag", ours.Text("tag") ?? "", theirs.Text("tag") ?? "");
        Dictionary<string, string> cases = Cases(ours);
        Dictionary<string, string> theirCases = Cases(theirs);
        // Which cases there are is told by the words of the tag.
        foreach ((string name, string type) in cases.Where(item => theirCases.ContainsKey(item.Key)))
        {
            CompareTypes($"{path}({name})", type, theirCases[name]);
        }
    }

    private static Dictionary<string, string> Cases(JsonObject type) =>
        (type.List("variants") ?? new JsonList()).Cast<JsonObject>().ToDictionary(variant => variant.Text("case")!, variant => variant.Text("type")!);

    private static string Features(JsonObject entry) =>
        string.Join(' ', (entry.List("features") ?? new JsonList()).Cast<JsonString>().Select(feature => feature.Value).Order(StringComparer.Ordinal));

    // What both have.
    private string[] Sets(string path, IEnumerable<string> ours, IEnumerable<string> theirs)
    {
        string[] left = [.. ours];
        string[] right = [.. theirs];
        Missing($"{path}: only here: ", left.Except(right));
        Missing($"{path}: only there: ", right.Except(left));
        return [.. left.Intersect(right)];
    }

    private void Missing(string what, IEnumerable<string> names)
    {
        string list = string.Join(' ', names);
        if (list.Length > 0)
        {
            _differences.Add(what + list);
        }
    }

    private void Same(string path, string ours, string theirs)
    {
        if (ours != theirs)
        {
            _differences.Add($"{path}: '{ours}', theirs '{theirs}'");
        }
    }
}
