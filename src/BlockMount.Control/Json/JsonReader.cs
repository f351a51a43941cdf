using System.Text;

namespace BlockMount.Control.Json;

/// <summary>
/// Reads values from a stream of bytes, one after the other, with QEMU's limits and error texts. A bad value costs one error or more, and reading goes on
/// behind it. One thread.
/// </summary>
public sealed class JsonReader
{
    /// <summary>How deep lists and objects may lie in each other.</summary>
    public const int NestingMax = 1024;

    /// <summary>Tokens of one value.</summary>
    public const int TokensMax = 2 << 20;

    /// <summary>Bytes of one value's tokens.</summary>
    public const int BytesMax = JsonLexer.TokenBytesMax;

    private readonly JsonLexer _lexer;
    private readonly Action<JsonValue?, string?> _emit;
    private List<JsonToken> _tokens = [];
    private long _bytes;
    private int _braces;
    private int _brackets;

    /// <param name="emit">Gets each value, or the text of an error.</param>
    public JsonReader(Action<JsonValue?, string?> emit)
    {
        _emit = emit;
        _lexer = new JsonLexer(Accept);
    }

    /// <summary>Takes the next bytes, which may end anywhere.</summary>
    public void Feed(ReadOnlySpan<byte> bytes) => _lexer.Feed(bytes);

    /// <summary>Reads a text that is one value.</summary>
    /// <exception cref="FormatException">It is not; the message says why.</exception>
    public static JsonValue Parse(string text)
    {
        JsonValue? result = null;
        string? failure = null;
        int count = 0;
        JsonReader reader = new((value, error) =>
        {
            result = value;
            failure ??= count == 0 ? error : "Expecting at most one JSON value";
            count++;
        });
        reader.Feed(Encoding.UTF8.GetBytes(text));
        // Ends a number or a keyword.
        reader.Feed("\n"u8);
        if (failure is null && (count == 0 || reader._tokens.Count > 0))
        {
            failure = string.IsNullOrWhiteSpace(text) ? "Expecting a JSON value" : "JSON parse error, premature EOI";
        }

        return failure is null ? result! : throw new FormatException(failure);
    }

    private void Accept(JsonToken token)
    {
        switch (token.Kind)
        {
            case JsonTokenKind.LeftBrace:
                _braces++;
                break;
            case JsonTokenKind.RightBrace:
                _braces--;
                break;
            case JsonTokenKind.LeftBracket:
                _brackets++;
                break;
            case JsonTokenKind.RightBracket:
                _brackets--;
                break;
            case JsonTokenKind.Error:
                Finish(null, token.Bytes.Length > BytesMax ? "JSON token size limit exceeded" : $"JSON parse error, stray '{Shown(token.Bytes)}'");
                return;
            default:
                break;
        }

        if (LimitExceededBy(token) is { } limit)
        {
            Finish(null, limit);
            return;
        }

        _bytes += token.Bytes.Length;
        _tokens.Add(token);
        if (_braces < 0 || _brackets < 0 || (_braces == 0 && _brackets == 0))
        {
            ParseTokens();
        }
    }

    // What is not UTF-8 is shown by U+FFFD, and a zero byte ends the text: in QEMU it is a string of C.
    private static string Shown(ReadOnlySpan<byte> token)
    {
        int end = token.IndexOf((byte)0);
        return Encoding.UTF8.GetString(end < 0 ? token : token[..end]);
    }

    private string? LimitExceededBy(JsonToken token) =>
        _bytes + token.Bytes.Length > BytesMax ? "JSON token size limit exceeded"
        : _tokens.Count + 1 > TokensMax ? "JSON token count limit exceeded"
        : _braces + _brackets > NestingMax ? "JSON nesting depth limit exceeded"
        : null;

    private void ParseTokens()
    {
        JsonValue? value = null;
        string? error = null;
        try
        {
            value = JsonParser.Parse(_tokens);
        }
        catch (JsonParseException failure)
        {
            error = "JSON parse error, " + failure.Message;
        }

        Finish(value, error);
    }

    private void Finish(JsonValue? value, string? error)
    {
        // A fresh list: one that was large does not stay.
        _tokens = [];
        _bytes = 0;
        _braces = 0;
        _brackets = 0;
        _emit(value, error);
    }
}
