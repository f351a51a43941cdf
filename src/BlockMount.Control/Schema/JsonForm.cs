using BlockMount.Control.Json;

namespace BlockMount.Control.Schema;

/// <summary>Arguments as JSON: nothing is converted.</summary>
internal sealed class JsonForm : IScalarForm
{
    public static readonly JsonForm Instance = new();

    public JsonValue Read(BuiltinType type, JsonValue value, string path)
    {
        switch (type.Kind)
        {
            case BuiltinKind.Text:
                return Text(value, path);
            case BuiltinKind.Boolean when value is not JsonBool:
                throw CommandException.WrongType(path, "boolean");
            case BuiltinKind.Null when value is not JsonNull:
                throw CommandException.WrongType(path, "null");
            case BuiltinKind.Number when value is not (JsonNumber or JsonInteger):
                throw CommandException.WrongType(path, "number");
            case BuiltinKind.Unsigned or BuiltinKind.Size:
                return Unsigned(value, path);
            case BuiltinKind.Integer when type.Minimum >= 0:
                return Unsigned(value, path) is { } small && small.Value <= type.Maximum
                    ? small
                    : throw new CommandException($"Parameter '{LastName(path)}' expects {type.Name}_t");
            case BuiltinKind.Integer:
                return Integer(type, value, path);
            default:
                return value;
        }
    }

    public JsonString Text(JsonValue value, string path) => value as JsonString ?? throw CommandException.WrongType(path, "string");

    public string ItemPath(string path, int index) => $"{path}[{index}]";

    public string LastName(string path) => path.EndsWith(']') ? "null" : path[(path.LastIndexOf('.') + 1)..];

    private JsonInteger Integer(BuiltinType type, JsonValue value, string path)
    {
        JsonInteger number = value is JsonInteger { Value: var whole } integer && whole <= long.MaxValue ? integer : throw CommandException.WrongType(path, "integer");
        return number.Value >= type.Minimum && number.Value <= type.Maximum
            ? number
            : throw new CommandException($"Parameter '{LastName(path)}' expects {type.Name}_t");
    }

    // A negative number wraps: QEMU took them before it had unsigned numbers, and still does.
    private static JsonInteger Unsigned(JsonValue value, string path) => value is JsonInteger number
        ? number.Value >= 0 ? number : new JsonInteger(unchecked((ulong)(long)number.Value))
        : throw new CommandException($"Parameter '{path}' expects uint64");
}
