using System.Globalization;
using BlockMount.Base;

namespace BlockMount.Control.DiskTool;

/// <summary>Numbers as qemu-io reads and prints them.</summary>
internal static class DiskToolNumbers
{
    // The most that one request may cover: 2 GiB less a sector.
    private const long RequestBytesMax = int.MaxValue / 512 * 512;

    private static readonly string[] s_units = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

    /// <summary>A number of bytes, with an optional suffix.</summary>
    /// <exception cref="DiskToolException">It is none.</exception>
    internal static long Parse(string text)
    {
        bool valid = text.StartsWith("0x", StringComparison.OrdinalIgnoreCase)
            ? long.TryParse(text.AsSpan(2), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out long bytes) && bytes >= 0
            : ByteSize.TryParse(text, out bytes);
        return valid ? bytes : throw new DiskToolException($"Parsing error: non-numeric argument, or extraneous/unrecognized suffix -- {text}\n");
    }

    /// <summary>The length of a request.</summary>
    /// <exception cref="DiskToolException">It is no number, or too large.</exception>
    internal static int ParseLength(string text)
    {
        long length = Parse(text);
        return length <= RequestBytesMax ? (int)length : throw new DiskToolException($"length cannot exceed {RequestBytesMax}, given {text}\n");
    }

    /// <summary>The byte that a buffer is filled with.</summary>
    /// <exception cref="DiskToolException">It is none.</exception>
    internal static byte ParsePattern(string text)
    {
        bool valid = text.StartsWith("0x", StringComparison.OrdinalIgnoreCase)
            ? byte.TryParse(text.AsSpan(2), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out byte pattern)
            : byte.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out pattern);
        return valid ? pattern : throw new DiskToolException($"{text} is not a valid pattern byte\n");
    }

    /// <summary>"64 KiB", "1.500 MiB", "512 bytes".</summary>
    internal static string Format(double bytes)
    {
        int unit = 0;
        while (bytes >= 1024 && unit < s_units.Length - 1)
        {
            bytes /= 1024;
            unit++;
        }

        // Halves go to the even digit, as in C.
        bytes = unit == 0 ? bytes : Math.Round(bytes, 3, MidpointRounding.ToEven);
        string number = bytes.ToString(unit == 0 ? "0.######" : "0.000", CultureInfo.InvariantCulture);
        return $"{(number.EndsWith(".000", StringComparison.Ordinal) ? number[..^4] : number)} {s_units[unit]}";
    }
}
