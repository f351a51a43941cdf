using System.Globalization;
using System.Text;

namespace BlockMount.Control.Json;

/// <summary>Turns the bytes of a string token into text.</summary>
internal static class JsonStrings
{
    /// <param name="token">With its quotes.</param>
    /// <exception cref="JsonParseException">An escape or a sequence of bytes means nothing.</exception>
    public static string Decode(ReadOnlySpan<byte> token)
    {
        StringBuilder text = new();
        ReadOnlySpan<byte> rest = token[1..];
        // Up to the closing quote.
        while (rest.Length > 1)
        {
            rest = rest[(rest[0] == '\\' ? AppendEscape(text, rest) : AppendCharacter(text, rest))..];
        }

        return text.ToString();
    }

    // Both return how many bytes they took.
    private static int AppendCharacter(StringBuilder text, ReadOnlySpan<byte> bytes)
    {
        if (bytes is [0xC0, 0x80, ..])
        {
            // "Modified" UTF-8 has this form for NUL, and QEMU takes it.
            _ = text.Append('\0');
            return 2;
        }

        if (Rune.DecodeFromUtf8(bytes, out Rune rune, out int consumed) != System.Buffers.OperationStatus.Done || IsNoncharacter(rune.Value))
        {
            throw new JsonParseException("invalid UTF-8 sequence in string");
        }

        _ = text.Append(rune.ToString());
        return consumed;
    }

    private static int AppendEscape(StringBuilder text, ReadOnlySpan<byte> bytes)
    {
        if (bytes[1] == 'u')
        {
            return AppendUnicode(text, bytes);
        }

        _ = text.Append((char)bytes[1] switch
        {
            '"' or '\'' or '\\' or '/' => (char)bytes[1],
            'b' => '\b',
            'f' => '\f',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            _ => throw new JsonParseException("invalid escape sequence in string"),
        });
        return 2;
    }

    private static int AppendUnicode(StringBuilder text, ReadOnlySpan<byte> bytes)
    {
        if (!TryReadUnit(bytes, out char unit) || char.IsLowSurrogate(unit) || IsNoncharacter(unit))
        {
            throw NotACharacter(bytes);
        }

        if (!char.IsHighSurrogate(unit))
        {
            _ = text.Append(unit);
            return 6;
        }

        if (!TryReadUnit(bytes[6..], out char low) || !char.IsLowSurrogate(low))
        {
            throw NotACharacter(bytes);
        }

        if (IsNoncharacter(char.ConvertToUtf32(unit, low)))
        {
            throw new JsonParseException($"{Encoding.UTF8.GetString(bytes[..12])} is not a valid Unicode character");
        }

        _ = text.Append(unit).Append(low);
        return 12;
    }

    // Unicode will never give these a meaning, and QEMU takes none of them.
    private static bool IsNoncharacter(int value) => (value & 0xFFFE) == 0xFFFE || value is >= 0xFDD0 and <= 0xFDEF;

    private static bool TryReadUnit(ReadOnlySpan<byte> bytes, out char unit)
    {
        unit = '\0';
        if (bytes.Length < 6 || bytes[0] != '\\' || bytes[1] != 'u'
            || !ushort.TryParse(bytes[2..6], NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out ushort value))
        {
            return false;
        }

        unit = (char)value;
        return true;
    }

    // A lone high surrogate, or four characters that are no hexadecimal digits; QEMU's text ends with them.
    private static JsonParseException NotACharacter(ReadOnlySpan<byte> bytes) =>
        new($"{Encoding.UTF8.GetString(bytes[..Math.Min(6, bytes.Length)])} is not a valid Unicode character");
}
