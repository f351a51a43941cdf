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
    private readonly HashSet<string> _described = new(StringComparer.Ordinal);

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
                ["arg-type"] = schema.Reference(item.Data ?? StructType.Empty),
            });
        }

        return schema._entries;
    }

    private void Add(CommandDescription command)
    {
        JsonObject entry = new()
        {
            ["name"] = command.Name,
            ["ret-type"] = Reference(command.Returns ?? StructType.Empty),
            ["meta-type"] = "command",
            ["arg-type"] = Reference(command.Arguments),
        };
        if (command.AllowOob)
        {
            entry["allow-oob"] = true;
        }

        AddFeatures(entry, command.Features);
        _entries.Add(entry);
    }

    // The name of a type on the wire; describes the type when it is met first.
    private string Reference(SchemaType type)
    {
        if (_names.TryGetValue(type.Name, out string? name))
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
        _names.TryAdd(type.Name, name);
        if (_described.Add(name))
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
                entry["members"] = new JsonList(words.Values.Select(word => new JsonObject { ["name"] = word }));
                entry["meta-type"] = "enum";
                entry["values"] = new JsonList(words.Values.Select(JsonValue.FromString));
                break;
            case ListType list:
                entry["element-type"] = Reference(list.Element);
                entry["meta-type"] = "array";
                break;
            case AlternateType alternate:
                entry["members"] = new JsonList(alternate.Choices.Select(choice => new JsonObject { ["type"] = Reference(choice) }));
                entry["meta-type"] = "alternate";
                break;
            case UnionType union:
                entry["tag"] = union.Discriminator;
                entry["variants"] = new JsonList(union.Kinds.Values.Select(kind => new JsonObject
                {
                    ["case"] = kind,
                    ["type"] = Reference(union.Variants.GetValueOrDefault(kind) ?? StructType.Empty),
                }));
                entry["members"] = Members(union.Common);
                entry["meta-type"] = "object";
                break;
            default:
                StructType plain = (StructType)type;
                entry["members"] = Members(plain.Members);
                entry["meta-type"] = "object";
                AddFeatures(entry, plain.Features);
                break;
        }
    }

    private JsonList Members(IEnumerable<SchemaMember> members)
    {
        JsonList list = new();
        foreach (SchemaMember member in members)
        {
            JsonObject entry = new() { ["name"] = member.Name };
            if (member.Optional)
            {
                entry["default"] = JsonValue.Null;
            }

            entry["type"] = Reference(member.Type);
            AddFeatures(entry, member.Features);
            list.Add(entry);
        }

        return list;
    }

    private static void AddFeatures(JsonObject entry, IReadOnlyList<string> features)
    {
        if (features.Count > 0)
        {
            entry["features"] = new JsonList(features.Select(JsonValue.FromString));
        }
    }
}
