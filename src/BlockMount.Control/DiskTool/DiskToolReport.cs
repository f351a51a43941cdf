using System.Diagnostics;
using System.Globalization;
using System.Text;

namespace BlockMount.Control.DiskTool;

/// <summary>What is said of a request that has ended.</summary>
internal static class DiskToolReport
{
    /// <param name="done">"read", "wrote", "discard".</param>
    /// <param name="started">A time stamp of <see cref="Stopwatch"/>.</param>
    /// <param name="forPrograms">One line of numbers, separated by commas.</param>
    internal static string Of(string done, long started, long offset, long length, bool forPrograms)
    {
        TimeSpan elapsed = Stopwatch.GetElapsedTime(started);
        double seconds = Math.Max(elapsed.TotalSeconds, 1e-9);
        string clock = elapsed.ToString(@"hh\:mm\:ss\.ff", CultureInfo.InvariantCulture);
        if (forPrograms)
        {
            return string.Create(CultureInfo.InvariantCulture, $"{length},1,{clock[1..]},{length / seconds:0.000},{1 / seconds:0.000}\n");
        }

        string time = elapsed < TimeSpan.FromMinutes(1) ? $"{clock[6..]} sec" : clock;
        return string.Create(
            CultureInfo.InvariantCulture,
            $"{done} {length}/{length} bytes at offset {offset}\n{DiskToolNumbers.Format(length)}, 1 ops; {time} ({DiskToolNumbers.Format(length / seconds)}/sec and {1 / seconds:0.0000} ops/sec)\n");
    }

    /// <summary>The bytes in hexadecimal and as characters, 16 in a line.</summary>
    internal static string Dump(ReadOnlySpan<byte> bytes, long offset)
    {
        StringBuilder text = new();
        for (int start = 0; start < bytes.Length; start += 16)
        {
            ReadOnlySpan<byte> line = bytes[start..Math.Min(start + 16, bytes.Length)];
            _ = text.Append(CultureInfo.InvariantCulture, $"{offset + start:x8}:  ");
            foreach (byte value in line)
            {
                _ = text.Append(CultureInfo.InvariantCulture, $"{value:x2} ");
            }

            _ = text.Append(' ');
            foreach (byte value in line)
            {
                _ = text.Append(char.IsAsciiLetterOrDigit((char)value) ? (char)value : '.');
            }

            _ = text.Append('\n');
        }

        return text.ToString();
    }
}
