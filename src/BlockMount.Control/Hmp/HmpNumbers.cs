using System.Globalization;

namespace BlockMount.Control.Hmp;

/// <summary>The two kinds of numbers that HMP knows, as QEMU's monitor reads them.</summary>
internal static class HmpNumbers
{
    private const string Suffixes = "BKMGTPE";

    /// <summary>Bytes of a size whose bare number counts MiB: 10, 10M, 1.5G, 512b.</summary>
    internal static bool TryParseSize(string text, out long bytes)
    {
        int digits = text.Length;
        int shift = 20;
        if (text.Length > 0 && char.IsAsciiLetter(text[^1]))
        {
            int power = Suffixes.IndexOf(char.ToUpperInvariant(text[^1]));
            digits--;
            shift = power * 10;
        }

        bytes = 0;
        if (shift < 0 || digits == 0 || !char.IsAsciiDigit(text[0])
            || !decimal.TryParse(text.AsSpan(0, digits), NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out decimal value))
        {
            return false;
        }

        if (value > (decimal)long.MaxValue / (1L << shift))
        {
            return false;
        }

        bytes = (long)(value * (1L << shift));
        return true;
    }

    /// <summary>A whole number: decimal, 0x hexadecimal or 0 octal, with a sign.</summary>
    internal static bool TryParseInteger(string text, out long value)
    {
        bool negative = text.StartsWith('-');
        string digits = negative || text.StartsWith('+') ? text[1..] : text;
        bool valid = digits.StartsWith("0x", StringComparison.OrdinalIgnoreCase)
            ? long.TryParse(digits.AsSpan(2), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out value)
            : digits.Length > 1 && digits[0] == '0'
                ? TryParseOctal(digits, out value)
                : long.TryParse(digits, NumberStyles.None, CultureInfo.InvariantCulture, out value);
        value = negative ? -value : value;
        return valid;
    }

    private static bool TryParseOctal(string digits, out long value)
    {
        value = 0;
        foreach (char digit in digits)
        {
            if (digit is < '0' or > '7' || value > long.MaxValue >> 3)
            {
                return false;
            }

            value = (value << 3) | (uint)(digit - '0');
        }

        return true;
    }
}
