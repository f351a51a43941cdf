using System.Globalization;

namespace BlockMount.Base;

/// <summary>Sizes as qemu-img reads and prints them: suffixes b, k, M, G, T, P, E are powers of 1024.</summary>
public static class ByteSize
{
    private const string Suffixes = "kMGTPE";

    /// <summary>
    /// Parses "65536", "64k", "1.5G" into bytes (0 to 2^63-1). A bare number is in bytes. A fraction needs a suffix.
    /// </summary>
    public static bool TryParse(ReadOnlySpan<char> text, out long bytes)
    {
        bytes = 0;
        if (text.IsEmpty)
        {
            return false;
        }

        int shift = SuffixShift(text[^1]);
        ReadOnlySpan<char> number = shift >= 0 ? text[..^1] : text;
        if (long.TryParse(number, NumberStyles.None, CultureInfo.InvariantCulture, out long whole))
        {
            shift = Math.Max(shift, 0);
            bytes = whole << shift;
            return bytes >> shift == whole && bytes >= 0;
        }

        if (shift < 10 || !decimal.TryParse(number, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out decimal fraction))
        {
            return false;
        }

        // Before the multiplication, which would overflow a decimal.
        if (fraction >= (decimal)long.MaxValue / (1L << shift))
        {
            return false;
        }

        bytes = (long)decimal.Truncate(fraction * (1L << shift));
        return true;
    }

    /// <summary>Three significant digits with a binary unit, as "512 B", "64 MiB", "1.25 GiB".</summary>
    public static string Format(long bytes)
    {
        double value = bytes;
        int unit = -1;
        // 1000 and not 1024, as qemu-img: "0.977 MiB" is preferred to four digits.
        while (value >= 1000 && unit < Suffixes.Length - 1)
        {
            value /= 1024;
            unit++;
        }

        string number = value.ToString(value switch { < 1 => "0.###", < 10 => "0.##", < 100 => "0.#", _ => "0" }, CultureInfo.InvariantCulture);
        return unit < 0 ? $"{number} B" : $"{number} {char.ToUpperInvariant(Suffixes[unit])}iB";
    }

    private static int SuffixShift(char suffix) => suffix switch
    {
        'b' or 'B' => 0,
        'k' or 'K' => 10,
        'm' or 'M' => 20,
        'g' or 'G' => 30,
        't' or 'T' => 40,
        'p' or 'P' => 50,
        'e' or 'E' => 60,
        _ => -1,
    };
}
