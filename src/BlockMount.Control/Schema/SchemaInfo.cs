using System.Globalization;
using BlockMount.Control.Json;

namespace BlockMount.Control.Schema;

/// <summary>
/// Makes the answer of query-qmp-schema of the description: every command, event and type once. Types other than the built-in ones go by numbers, so
/// that no client relies on their names. One use.
/// </summary>
internal sealed class SchemaInfo
{
    private readonly JsonList _entries = new();
    private readonly Dictionary<string, string> _names = new(StringComparer.Ordinal);

    private SchemaInfo()
    {
    }

    internal static JsonList Of(IEnumerable<CommandDescription> commands, IEnumerable<EventDescription> events)
    {
        SchemaInfo schema = new();
        foreach (CommandDescription command in commands)
        {
            schema.Add(command);
        }

        foreach (EventDescription item in events)
        {
            schema._entries.Add(new JsonObject
            {
                ["name"] = item.Name,
                ["meta-type"] = "event",
                ["arg-type"] = schema.Reference(item.Data ?? Describe.NoMembers),
            });
        }

        return schema._entries;
    }

    private void Add(CommandDescription command)
    {
        JsonObject entry = new()
        {
            ["name"] = command.Name,
            ["meta-type"] = "command",
            ["arg-type"] = Reference(command.Arguments),
            ["ret-type"] = Reference(command.Returns ?? Describe.NoMembers),
        };
        if (command.AllowOob)
        {
            entry["allow-oob"] = true;
        }

        if (command.Deprecated)
        {
            entry["features"] = new JsonList(["deprecated"]);
        }

        _entries.Add(entry);
    }

    // The name of a type on the wire; describes the type when it is met first.
    private string Reference(SchemaType type)
    {
        string key = type.Name;
        if (_names.TryGetValue(key, out string? name))
        {
            return name;
        }

        name = type switch
        {
            BuiltinType builtin => builtin.WireName,
            ListType list => $"[{Reference(list.Element)}]",
            _ => _names.Count.ToString(CultureInfo.InvariantCulture),
        };
        // Before its members: a type may contain itself.
        _names.Add(key, name);
        if (!_entries.OfType<JsonObject>().Any(entry => entry.Text("name") == name))
        {
            AddType(type, name);
        }

        return name;
    }

    private void AddType(SchemaType type, string name)
    {
        JsonObject entry = new() { ["name"] = name };
        _entries.Add(entry);
        switch (type)
        {
            case BuiltinType builtin:
                entry["meta-type"] = "builtin";
                entry["json-type"] = builtin.JsonType;
                break;
            case EnumType words:
                entry["meta-type"] = "enum";
                entry["members"] = new JsonList(words.Values.Select(word => new JsonObject { ["name"] = word }));
                entry["values"] = new JsonList(words.Values.Select(JsonValue.FromString));
                break;
            case ListType list:
                entry["meta-type"] = "array";
                entry["element-type"] = Reference(list.Element);
                break;
            case AlternateType alternate:
                entry["meta-type"] = "alternate";
                entry["members"] = new JsonList(alternate.Choices().Select(choice => new JsonObject { ["type"] = Reference(choice) }));
                break;
            case UnionType union:
                entry["meta-type"] = "object";
                entry["members"] = Members(union.Common);
                entry["tag"] = union.Discriminator;
                entry["variants"] = new JsonList(union.Kinds.Values.Select(kind => new JsonObject
                {
                    ["case"] = kind,
                    ["type"] = Reference(union.Variants().GetValueOrDefault(kind) ?? Describe.NoMembers),
                }));
                break;
            default:
                entry["meta-type"] = "object";
                entry["members"] = Members(((StructType)type).AllMembers);
                break;
        }
    }

    private JsonList Members(IEnumerable<SchemaMember> members)
    {
        JsonList list = new();
        foreach (SchemaMember member in members)
        {
            JsonObject entry = new() { ["name"] = member.Name, ["type"] = Reference(member.Type) };
            if (member.Optional)
            {
                entry["default"] = JsonValue.Null;
            }

            list.Add(entry);
        }

        return list;
    }
}
