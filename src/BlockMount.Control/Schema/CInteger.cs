namespace BlockMount.Control.Schema;

/// <summary>Integers as C's strtoll reads them with base 0: white space before them, a sign, 0x for hexadecimal and 0 for octal.</summary>
internal static class CInteger
{
    // Enough for 64 bits in octal, and far from the limits of 128.
    private const int DigitsMax = 25;

    /// <summary>Reads the whole text; false if it is no integer, or one of more than 64 bits and a sign by far.</summary>
    public static bool TryParse(ReadOnlySpan<char> text, out Int128 value)
    {
        value = 0;
        text = text.TrimStart(" \t\n\v\f\r");
        bool negative = text is ['-', ..];
        text = text is ['-' or '+', ..] ? text[1..] : text;
        uint radix = text is ['0', 'x' or 'X', _, ..] ? 16u : text is ['0', _, ..] ? 8u : 10u;
        text = radix == 16 ? text[2..] : text;
        if (text.IsEmpty || text.TrimStart('0').Length > DigitsMax)
        {
            return false;
        }

        foreach (char c in text)
        {
            uint digit = char.IsAsciiHexDigit(c) ? (uint)System.Convert.ToInt32(c.ToString(), 16) : uint.MaxValue;
            if (digit >= radix)
            {
                return false;
            }

            value = (value * radix) + digit;
        }

        value = negative ? -value : value;
        return true;
    }
}
