namespace BlockMount.Control.Json;

/// <summary>
/// A value of JSON (RFC 8259) as QMP uses it: integers and fractional numbers are different things, and the members of an object have an order.
/// Values are not changed once they are part of another one, except by whoever builds them. Not thread-safe while being built.
/// </summary>
public abstract class JsonValue
{
    /// <summary>null.</summary>
    public static JsonValue Null { get; } = new JsonNull();

    /// <summary>A string.</summary>
    public static implicit operator JsonValue(string text) => new JsonString(text);

    /// <summary>An integer.</summary>
    public static implicit operator JsonValue(long value) => new JsonInteger(value);

    /// <summary>true or false.</summary>
    public static implicit operator JsonValue(bool value) => new JsonBool(value);

    /// <summary>A string.</summary>
    public static JsonValue FromString(string text) => text;

    /// <summary>An integer.</summary>
    public static JsonValue FromInt64(long value) => value;

    /// <summary>true or false.</summary>
    public static JsonValue FromBoolean(bool value) => value;

    /// <summary>One line, as QMP sends it.</summary>
    public override string ToString() => JsonWriter.Write(this);
}

/// <summary>null.</summary>
public sealed class JsonNull : JsonValue
{
    internal JsonNull()
    {
    }
}

/// <summary>true or false.</summary>
public sealed class JsonBool(bool value) : JsonValue
{
    /// <summary>The value.</summary>
    public bool Value { get; } = value;
}

/// <summary>A whole number from -2^63 to 2^64 - 1.</summary>
public sealed class JsonInteger(Int128 value) : JsonValue
{
    /// <summary>The value.</summary>
    public Int128 Value { get; } = value;
}

/// <summary>A number with a fraction or an exponent, or one that is too large for <see cref="JsonInteger"/>.</summary>
public sealed class JsonNumber(double value) : JsonValue
{
    /// <summary>The value; may be infinite.</summary>
    public double Value { get; } = value;
}

/// <summary>A string.</summary>
public sealed class JsonString(string value) : JsonValue
{
    /// <summary>The text.</summary>
    public string Value { get; } = value;
}
