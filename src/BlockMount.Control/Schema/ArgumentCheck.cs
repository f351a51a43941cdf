using BlockMount.Control.Json;

namespace BlockMount.Control.Schema;

/// <summary>
/// Compares a value with its type, in the order of the description, with QEMU's texts. The first thing that does not fit decides.
/// </summary>
internal static class ArgumentCheck
{
    /// <summary>Checks the arguments of a command.</summary>
    /// <exception cref="CommandException">They do not fit.</exception>
    internal static void Check(SchemaType type, JsonObject arguments)
    {
        HashSet<string> known = new(StringComparer.Ordinal);
        CheckMembers(type, arguments, "", known);
        RefuseUnknown(arguments, "", known);
    }

    private static void CheckValue(SchemaType type, JsonValue value, string path)
    {
        switch (type)
        {
            case BuiltinType builtin:
                CheckBuiltin(builtin.Kind, value, path);
                break;
            case EnumType words:
                CheckEnum(words, value, path);
                break;
            case ListType list:
                CheckList(list, value, path);
                break;
            case AlternateType alternate:
                CheckAlternate(alternate, value, path);
                break;
            default:
                JsonObject members = value as JsonObject ?? throw CommandException.WrongType(path, "object");
                HashSet<string> known = new(StringComparer.Ordinal);
                CheckMembers(type, members, path, known);
                RefuseUnknown(members, path, known);
                break;
        }
    }

    private static void CheckBuiltin(BuiltinKind kind, JsonValue value, string path)
    {
        switch (kind)
        {
            case BuiltinKind.Text when value is not JsonString:
                throw CommandException.WrongType(path, "string");
            case BuiltinKind.Boolean when value is not JsonBool:
                throw CommandException.WrongType(path, "boolean");
            case BuiltinKind.Null when value is not JsonNull:
                throw CommandException.WrongType(path, "null");
            case BuiltinKind.Number when value is not (JsonNumber or JsonInteger):
                throw CommandException.WrongType(path, "number");
            case BuiltinKind.Integer when value is not JsonInteger { Value: var number } || number > long.MaxValue:
                throw CommandException.WrongType(path, "integer");
            case BuiltinKind.Size or BuiltinKind.UInt32 when value is not JsonInteger:
                throw new CommandException($"Parameter '{path}' expects uint64");
            case BuiltinKind.UInt32 when value is JsonInteger { Value: var number } && (number < 0 || number > uint.MaxValue):
                throw new CommandException($"Parameter '{path}' expects uint32_t");
            default:
                break;
        }
    }

    private static void CheckEnum(EnumType words, JsonValue value, string path)
    {
        if (value is not JsonString word)
        {
            throw CommandException.WrongType(path, "string");
        }

        if (!words.Values.Contains(word.Value))
        {
            // Here, and only here, QEMU names the member without what leads to it; an item of a list has no name.
            string name = path.EndsWith(']') ? "null" : path[(path.LastIndexOf('.') + 1)..];
            throw new CommandException($"Parameter '{name}' does not accept value '{word.Value}'");
        }
    }

    private static void CheckList(ListType type, JsonValue value, string path)
    {
        JsonList list = value as JsonList ?? throw CommandException.WrongType(path, "array");
        for (int i = 0; i < list.Count; i++)
        {
            CheckValue(type.Element, list[i], $"{path}[{i}]");
        }
    }

    private static void CheckAlternate(AlternateType alternate, JsonValue value, string path)
    {
        SchemaType choice = alternate.Choices().FirstOrDefault(candidate => Takes(candidate, value))
            ?? throw CommandException.WrongType(path, alternate.Name);
        CheckValue(choice, value, path);
    }

    private static bool Takes(SchemaType type, JsonValue value) => value switch
    {
        JsonString => type is EnumType or BuiltinType { Kind: BuiltinKind.Text },
        JsonBool => type is BuiltinType { Kind: BuiltinKind.Boolean },
        JsonNull => type is BuiltinType { Kind: BuiltinKind.Null },
        JsonInteger => type is BuiltinType { Kind: BuiltinKind.Integer or BuiltinKind.Size or BuiltinKind.UInt32 or BuiltinKind.Number },
        JsonList => type is ListType,
        JsonObject => type is StructType or UnionType,
        _ => false,
    };

    private static void CheckMembers(SchemaType type, JsonObject members, string path, HashSet<string> known)
    {
        if (type is UnionType union)
        {
            CheckMembers(union.Common, members, path, known);
            if (members.Text(union.Discriminator) is { } kind && union.Variants().TryGetValue(kind, out StructType? variant))
            {
                CheckMembers(variant.AllMembers, members, path, known);
            }
        }
        else
        {
            CheckMembers(((StructType)type).AllMembers, members, path, known);
        }
    }

    private static void CheckMembers(IEnumerable<SchemaMember> described, JsonObject members, string path, HashSet<string> known)
    {
        foreach (SchemaMember member in described)
        {
            string name = Join(path, member.Name);
            _ = known.Add(member.Name);
            if (members.TryGet(member.Name, out JsonValue? value))
            {
                CheckValue(member.Type, value, name);
            }
            else if (!member.Optional)
            {
                throw new CommandException($"Parameter '{name}' is missing");
            }
        }
    }

    private static void RefuseUnknown(JsonObject members, string path, HashSet<string> known)
    {
        foreach ((string name, JsonValue _) in members)
        {
            if (!known.Contains(name))
            {
                throw new CommandException($"Parameter '{Join(path, name)}' is unexpected");
            }
        }
    }

    private static string Join(string path, string name) => path.Length == 0 ? name : $"{path}.{name}";
}
