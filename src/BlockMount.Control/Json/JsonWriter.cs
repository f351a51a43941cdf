using System.Globalization;
using System.Text;

namespace BlockMount.Control.Json;

/// <summary>Writes values as QMP does: ASCII only, on one line, or indented by four spaces with its option pretty=on.</summary>
public static class JsonWriter
{
    /// <summary>The text of a value, without a line end.</summary>
    public static string Write(JsonValue value, bool pretty = false)
    {
        StringBuilder text = new();
        Append(text, value, pretty, 0);
        return text.ToString();
    }

    private static void Append(StringBuilder text, JsonValue value, bool pretty, int depth)
    {
        _ = value switch
        {
            JsonNull => text.Append("null"),
            JsonBool flag => text.Append(flag.Value ? "true" : "false"),
            JsonInteger number => text.Append(CultureInfo.InvariantCulture, $"{number.Value}"),
            JsonNumber number => text.Append(NumberText(number.Value)),
            JsonString content => AppendString(text, content.Value),
            JsonList list => AppendList(text, list, pretty, depth),
            JsonObject members => AppendObject(text, members, pretty, depth),
            _ => throw new InvalidOperationException("unknown kind of value"),
        };
    }

    // As C's %.17g.
    private static string NumberText(double value) =>
        double.IsPositiveInfinity(value) ? "inf"
        : double.IsNegativeInfinity(value) ? "-inf"
        : value.ToString("G17", CultureInfo.InvariantCulture).Replace('E', 'e');

    private static StringBuilder AppendList(StringBuilder text, JsonList list, bool pretty, int depth)
    {
        _ = text.Append('[');
        for (int i = 0; i < list.Count; i++)
        {
            Separate(text, pretty, depth + 1, first: i == 0);
            Append(text, list[i], pretty, depth + 1);
        }

        return Close(text, pretty && list.Count > 0, depth, ']');
    }

    private static StringBuilder AppendObject(StringBuilder text, JsonObject members, bool pretty, int depth)
    {
        _ = text.Append('{');
        bool first = true;
        foreach ((string name, JsonValue value) in members)
        {
            Separate(text, pretty, depth + 1, first);
            first = false;
            _ = AppendString(text, name).Append(": ");
            Append(text, value, pretty, depth + 1);
        }

        return Close(text, pretty && !first, depth, '}');
    }

    private static void Separate(StringBuilder text, bool pretty, int depth, bool first)
    {
        if (pretty)
        {
            _ = text.Append(first ? "\n" : ",\n").Append(' ', depth * 4);
        }
        else if (!first)
        {
            _ = text.Append(", ");
        }
    }

    private static StringBuilder Close(StringBuilder text, bool newLine, int depth, char bracket)
    {
        if (newLine)
        {
            _ = text.Append('\n').Append(' ', depth * 4);
        }

        return text.Append(bracket);
    }

    private static StringBuilder AppendString(StringBuilder text, string content)
    {
        _ = text.Append('"');
        foreach (char c in content)
        {
            _ = c switch
            {
                '"' => text.Append("\\\""),
                '\\' => text.Append("\\\\"),
                '\b' => text.Append("\\b"),
                '\f' => text.Append("\\f"),
                '\n' => text.Append("\\n"),
                '\r' => text.Append("\\r"),
                '\t' => text.Append("\\t"),
                >= ' ' and < '\x7f' => text.Append(c),
                _ => text.Append(CultureInfo.InvariantCulture, $"\\u{(int)c:X4}"),
            };
        }

        return text.Append('"');
    }
}
