using BlockMount.Control.Json;

namespace BlockMount.Control.Schema;

/// <summary>
/// Compares a value with its type, in the order of the description, with QEMU's texts. The first thing that does not fit decides. Two forms
/// of values are read: JSON, and <see cref="Keyval"/>, where every leaf is a string.
/// </summary>
public sealed class ArgumentCheck
{
    private readonly IScalarForm _form;

    private ArgumentCheck(IScalarForm form) => _form = form;

    /// <summary>Checks arguments that came as JSON.</summary>
    /// <param name="type">A <see cref="StructType"/> or <see cref="UnionType"/>.</param>
    /// <exception cref="CommandException">They do not fit.</exception>
    public static void Check(SchemaType type, JsonObject arguments) => _ = new ArgumentCheck(JsonForm.Instance).Object(type, arguments, "");

    /// <summary>Checks options that came as key=value, and turns their strings into what the type wants.</summary>
    /// <param name="type">A <see cref="StructType"/> or <see cref="UnionType"/>.</param>
    /// <param name="options">What <see cref="Keyval.Parse"/> made of them.</param>
    /// <returns>The arguments as if they had come as JSON.</returns>
    /// <exception cref="CommandException">They do not fit.</exception>
    public static JsonObject Convert(SchemaType type, JsonObject options) => new ArgumentCheck(KeyvalForm.Instance).Object(type, options, "");

    private JsonValue Value(SchemaType type, JsonValue value, string path) => type switch
    {
        BuiltinType builtin => _form.Read(builtin, value, path),
        EnumType words => Word(words, value, path),
        ListType list => List(list, value, path),
        AlternateType alternate => Alternate(alternate, value, path),
        _ => Object(type, value as JsonObject ?? throw CommandException.WrongType(path, "object"), path),
    };

    private JsonString Word(EnumType words, JsonValue value, string path)
    {
        JsonString word = _form.Text(value, path);
        if (!words.Values.Contains(word.Value))
        {
            // Here QEMU names the member without what leads to it; an item of a list has no name.
            throw new CommandException($"Parameter '{_form.LastName(path)}' does not accept value '{word.Value}'");
        }

        return word;
    }

    private JsonList List(ListType type, JsonValue value, string path)
    {
        JsonList list = value as JsonList ?? throw CommandException.WrongType(path, "array");
        JsonList result = new();
        for (int i = 0; i < list.Count; i++)
        {
            result.Add(Value(type.Element, list[i], _form.ItemPath(path, i)));
        }

        return result;
    }

    private JsonValue Alternate(AlternateType alternate, JsonValue value, string path)
    {
        // Named as words are.
        SchemaType choice = alternate.Choices.FirstOrDefault(candidate => Takes(candidate, value))
            ?? throw CommandException.WrongType(_form.LastName(path), alternate.Name);
        return Value(choice, value, path);
    }

    private static bool Takes(SchemaType type, JsonValue value) => value switch
    {
        JsonString => type is EnumType or BuiltinType { Kind: BuiltinKind.Text },
        JsonBool => type is BuiltinType { Kind: BuiltinKind.Boolean },
        JsonNull => type is BuiltinType { Kind: BuiltinKind.Null },
        JsonInteger => type is BuiltinType { Kind: BuiltinKind.Integer or BuiltinKind.Unsigned or BuiltinKind.Size or BuiltinKind.Number },
        JsonNumber => type is BuiltinType { Kind: BuiltinKind.Number },
        JsonList => type is ListType,
        JsonObject => type is StructType or UnionType,
        _ => false,
    };

    private JsonObject Object(SchemaType type, JsonObject given, string path)
    {
        JsonObject result = new();
        if (type is UnionType union)
        {
            Members(union.Common, given, path, result);
            if (union.Variants.TryGetValue(result.Text(union.Discriminator)!, out StructType? variant))
            {
                Members(variant.Members, given, path, result);
            }
        }
        else
        {
            Members(((StructType)type).Members, given, path, result);
        }

        foreach ((string name, JsonValue _) in given)
        {
            if (!result.Contains(name))
            {
                throw new CommandException($"Parameter '{Join(path, name)}' is unexpected");
            }
        }

        return result;
    }

    private void Members(IReadOnlyList<SchemaMember> described, JsonObject given, string path, JsonObject result)
    {
        foreach (SchemaMember member in described)
        {
            string name = Join(path, member.Name);
            if (given.TryGet(member.Name, out JsonValue? value))
            {
                result[member.Name] = Value(member.Type, value, name);
            }
            else if (!member.Optional)
            {
                throw new CommandException($"Parameter '{name}' is missing");
            }
        }
    }

    private static string Join(string path, string name) => path.Length == 0 ? name : $"{path}.{name}";
}
