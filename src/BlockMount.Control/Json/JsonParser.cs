using System.Globalization;
using System.Text;

namespace BlockMount.Control.Json;

/// <summary>Makes a value of the tokens of one whole value, with QEMU's texts where they do not fit together. One use.</summary>
internal sealed class JsonParser
{
    private readonly IReadOnlyList<JsonToken> _tokens;
    private int _next;

    private JsonParser(IReadOnlyList<JsonToken> tokens) => _tokens = tokens;

    /// <exception cref="JsonParseException">They are no value.</exception>
    public static JsonValue Parse(IReadOnlyList<JsonToken> tokens) => new JsonParser(tokens).ParseValue();

    private JsonValue ParseValue()
    {
        JsonToken token = Take();
        return token.Kind switch
        {
            JsonTokenKind.LeftBrace => ParseObject(),
            JsonTokenKind.LeftBracket => ParseList(),
            JsonTokenKind.String => new JsonString(JsonStrings.Decode(token.Bytes)),
            JsonTokenKind.Integer => ParseInteger(token.Bytes),
            JsonTokenKind.Number => ParseNumber(token.Bytes),
            JsonTokenKind.Keyword => ParseKeyword(Encoding.UTF8.GetString(token.Bytes)),
            _ => throw new JsonParseException("expecting value"),
        };
    }

    private JsonObject ParseObject()
    {
        JsonObject members = new();
        if (TryTake(JsonTokenKind.RightBrace))
        {
            return members;
        }

        while (true)
        {
            ParseMember(members);
            JsonToken separator = Take();
            if (separator.Kind == JsonTokenKind.RightBrace)
            {
                return members;
            }

            if (separator.Kind != JsonTokenKind.Comma)
            {
                throw new JsonParseException("expected separator in dict");
            }
        }
    }

    private void ParseMember(JsonObject members)
    {
        if (ParseValue() is not JsonString name)
        {
            throw new JsonParseException("key is not a string in object");
        }

        if (Take().Kind != JsonTokenKind.Colon)
        {
            throw new JsonParseException("missing : in object pair");
        }

        JsonValue value = ParseValue();
        if (members.Contains(name.Value))
        {
            throw new JsonParseException("duplicate key");
        }

        members.Add(name.Value, value);
    }

    private JsonList ParseList()
    {
        JsonList list = new();
        if (TryTake(JsonTokenKind.RightBracket))
        {
            return list;
        }

        while (true)
        {
            list.Add(ParseValue());
            JsonToken separator = Take();
            if (separator.Kind == JsonTokenKind.RightBracket)
            {
                return list;
            }

            if (separator.Kind != JsonTokenKind.Comma)
            {
                throw new JsonParseException("expected separator in list");
            }
        }
    }

    private static JsonValue ParseInteger(ReadOnlySpan<byte> digits) =>
        Int128.TryParse(digits, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out Int128 value)
            && value >= long.MinValue && value <= ulong.MaxValue
            ? new JsonInteger(value)
            : ParseNumber(digits);

    private static JsonNumber ParseNumber(ReadOnlySpan<byte> text) => new(double.Parse(text, NumberStyles.Float, CultureInfo.InvariantCulture));

    private static JsonValue ParseKeyword(string word) => word switch
    {
        "true" => true,
        "false" => false,
        "null" => JsonValue.Null,
        _ => throw new JsonParseException($"invalid keyword '{word}'"),
    };

    private JsonToken Take() => _next < _tokens.Count ? _tokens[_next++] : throw new JsonParseException("premature EOI");

    private bool TryTake(JsonTokenKind kind)
    {
        bool matches = _next < _tokens.Count && _tokens[_next].Kind == kind;
        _next += matches ? 1 : 0;
        return matches;
    }
}
