namespace BlockMount.Control.Json;

/// <summary>What a token is.</summary>
internal enum JsonTokenKind
{
    LeftBrace,
    RightBrace,
    LeftBracket,
    RightBracket,
    Colon,
    Comma,
    Integer,
    Number,
    Keyword,
    String,

    /// <summary>Bytes that belong to no token.</summary>
    Error,
}

/// <summary>A token and its bytes as they were read, quotes and escapes included.</summary>
internal readonly record struct JsonToken(JsonTokenKind Kind, byte[] Bytes);
