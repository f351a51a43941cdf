using System.Globalization;
using System.Text;
using BlockMount.Base;
using BlockMount.Formats.Qcow2.OnDisk;

namespace BlockMount.Daemon.Cli;

/// <summary>The table of internal snapshots, as qemu-img prints it in 'info' and in 'snapshot -l'.</summary>
internal static class SnapshotListText
{
    /// <summary>The lines, without their ends; none if there is no snapshot. Names come out of the image: they may hold control characters.</summary>
    public static IEnumerable<string> Lines(IReadOnlyList<SnapshotEntry> snapshots)
    {
        if (snapshots.Count == 0)
        {
            yield break;
        }

        yield return "Snapshot list:";
        yield return $"{"ID",-10}{"TAG",-17}{"VM SIZE",8}{"DATE",20}{"VM CLOCK",13}{"ICOUNT",11}";
        foreach (SnapshotEntry snapshot in snapshots)
        {
            string date = DateTimeOffset.FromUnixTimeSeconds(snapshot.DateSeconds).ToLocalTime()
                .ToString("yyyy-MM-dd HH:mm:ss", CultureInfo.InvariantCulture);
            string icount = snapshot.InstructionCount?.ToString(CultureInfo.InvariantCulture) ?? "";
            string size = ByteSize.Format(snapshot.VmStateSize);
            yield return $"{Pad(snapshot.Id, 9)} {Pad(snapshot.Name, 16)} {size,8}{date,20}{Clock(snapshot.VmClockNanoseconds),13}{icount,11}";
        }
    }

    /// <summary>A line for a terminal: nothing in it may move the cursor.</summary>
    public static string Printable(string line) =>
        string.Create(line.Length, line, static (span, text) =>
        {
            for (int i = 0; i < text.Length; i++)
            {
                span[i] = char.IsControl(text[i]) ? '?' : text[i];
            }
        });

    // qemu-img counts bytes, not letters.
    private static string Pad(string text, int bytes) => text + new string(' ', Math.Max(bytes - Encoding.UTF8.GetByteCount(text), 0));

    private static string Clock(ulong nanoseconds)
    {
        ulong seconds = nanoseconds / 1_000_000_000;
        ulong milliseconds = nanoseconds / 1_000_000 % 1000;
        return string.Create(
            CultureInfo.InvariantCulture, $"{seconds / 3600:00}:{seconds / 60 % 60:00}:{seconds % 60:00}.{milliseconds:000}");
    }
}
