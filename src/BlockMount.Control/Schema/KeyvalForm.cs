using System.Globalization;
using BlockMount.Base;
using BlockMount.Control.Json;

namespace BlockMount.Control.Schema;

/// <summary>Arguments as key=value: every leaf is a string, which is read as its type wants.</summary>
internal sealed class KeyvalForm : IScalarForm
{
    public static readonly KeyvalForm Instance = new();

    public JsonValue Read(BuiltinType type, JsonValue value, string path)
    {
        if (type.Kind == BuiltinKind.Any)
        {
            return value;
        }

        string text = Text(value, path).Value;
        return type.Kind switch
        {
            BuiltinKind.Text => value,
            BuiltinKind.Boolean => Boolean(text, path),
            BuiltinKind.Null => text.Length == 0 ? JsonValue.Null : throw CommandException.WrongType(path, "null"),
            BuiltinKind.Number => double.TryParse(text, NumberStyles.Float, CultureInfo.InvariantCulture, out double number)
                ? new JsonNumber(number)
                : throw CommandException.WrongType(path, "number"),
            BuiltinKind.Size => ByteSize.TryParse(text, out long bytes) ? bytes : throw Expects(path, "size"),
            BuiltinKind.Unsigned => new JsonInteger(Unsigned(text, path)),
            _ => Integer(type, text, path),
        };
    }

    public JsonString Text(JsonValue value, string path) => value switch
    {
        JsonString text => text,
        _ => throw new CommandException($"Parameters '{path}.*' are unexpected"),
    };

    public string ItemPath(string path, int index) => $"{path}.{index}";

    public string LastName(string path)
    {
        string last = path[(path.LastIndexOf('.') + 1)..];
        return last.Length > 0 && char.IsAsciiDigit(last[0]) ? "null" : last;
    }

    private static JsonValue Boolean(string text, string path) => text switch
    {
        "on" or "yes" or "true" or "y" => true,
        "off" or "no" or "false" or "n" => false,
        _ => throw Expects(path, "'on' or 'off'"),
    };

    private JsonInteger Integer(BuiltinType type, string text, string path)
    {
        Int128 number = type.Minimum >= 0 ? Unsigned(text, path) : CInteger.TryParse(text, out Int128 value) ? value : Int128.MaxValue;
        if (type.Minimum == long.MinValue || number == Int128.MaxValue)
        {
            return number >= long.MinValue && number <= long.MaxValue ? new JsonInteger(number) : throw Expects(path, "integer");
        }

        return number >= type.Minimum && number <= type.Maximum ? new JsonInteger(number) : throw Expects(LastName(path), type.Name + "_t");
    }

    private static Int128 Unsigned(string text, string path) =>
        CInteger.TryParse(text, out Int128 value) && value >= -(Int128)ulong.MaxValue && value <= ulong.MaxValue
            ? value >= 0 ? value : value + ulong.MaxValue + 1
            : throw Expects(path, "integer");

    private static CommandException Expects(string path, string what) => new($"Parameter '{path}' expects {what}");
}
