using System.Globalization;
using System.Text;
using BlockMount.Formats.Qcow2.Check;
using BlockMount.Formats.Qcow2.Repair;

namespace BlockMount.Daemon.Cli;

/// <summary>The answer of check for people: the closing lines of qemu-img check, and ours about the guest's ranges.</summary>
internal static class CheckText
{
    private const int RangesShownMax = 40;

    /// <summary>The findings, one a line, as far as they are kept.</summary>
    public static void WriteFindings(TextWriter error, CheckReport report, CheckArguments arguments)
    {
        if (arguments.Quiet)
        {
            return;
        }

        foreach (CheckFinding finding in report.Findings)
        {
            error.WriteLine($"{(finding.Kind == CheckFindingKind.Leak ? "Leaked" : "ERROR")} {finding.Description}");
        }

        long more = report.Corruptions + report.Leaks + report.CheckErrors - report.Findings.Count;
        if (more > 0)
        {
            error.WriteLine($"... and {more} more");
        }
    }

    /// <summary>What a repair did, before the second check's answer.</summary>
    /// <param name="undoFile">Null if nothing had to be changed.</param>
    public static void WriteRepair(TextWriter output, RepairResult result, string? undoFile)
    {
        if (result.After.CorruptionsFixed > 0 || result.After.LeaksFixed > 0)
        {
            output.WriteLine("The following inconsistencies were found and repaired:");
            output.WriteLine();
            output.WriteLine($"    {result.After.LeaksFixed} leaked clusters");
            output.WriteLine($"    {result.After.CorruptionsFixed} corruptions");
            output.WriteLine();
            output.WriteLine("Double checking the fixed image now...");
        }

        if (undoFile is not null)
        {
            output.WriteLine($"To take the repair back: blockmount check --undo '{undoFile}' IMAGE");
        }
    }

    /// <summary>The closing lines.</summary>
    /// <param name="damage">The guest ranges that are or were hit.</param>
    public static string Write(CheckReport report, GuestDamage damage, string fileName)
    {
        StringBuilder text = new();
        WriteVerdict(text, report);
        WriteDamage(text, damage, fileName);
        if (report.TotalClusters != 0 && report.AllocatedClusters != 0)
        {
            text.Append(CultureInfo.InvariantCulture, $"{report.AllocatedClusters}/{report.TotalClusters} = {Percent(report.AllocatedClusters, report.TotalClusters)}% allocated, ");
            text.Append(CultureInfo.InvariantCulture, $"{Percent(report.FragmentedClusters, report.AllocatedClusters)}% fragmented, ");
            text.Append(CultureInfo.InvariantCulture, $"{Percent(report.CompressedClusters, report.AllocatedClusters)}% compressed clusters\n");
        }

        if (report.ImageEndOffset != 0)
        {
            text.Append(CultureInfo.InvariantCulture, $"Image end offset: {report.ImageEndOffset}\n");
        }

        return text.ToString();
    }

    private static void WriteVerdict(StringBuilder text, CheckReport report)
    {
        if (report.IsClean)
        {
            text.Append("No errors were found on the image.\n");
        }

        if (report.Corruptions > 0)
        {
            text.Append(CultureInfo.InvariantCulture, $"\n{report.Corruptions} errors were found on the image.\n");
            text.Append("Data may be corrupted, or further writes to the image may corrupt it.\n");
        }

        if (report.CorruptionsUnknownToQemu > 0)
        {
            text.Append(CultureInfo.InvariantCulture, $"({report.CorruptionsUnknownToQemu} of them are such as qemu-img check does not look for.)\n");
        }

        if (report.Leaks > 0)
        {
            text.Append(CultureInfo.InvariantCulture, $"\n{report.Leaks} leaked clusters were found on the image.\n");
            text.Append("This means waste of disk space, but no harm to data.\n");
        }

        if (report.CheckErrors > 0)
        {
            text.Append(CultureInfo.InvariantCulture, $"\n{report.CheckErrors} internal errors have occurred during the check.\n");
        }
    }

    private static void WriteDamage(StringBuilder text, GuestDamage damage, string fileName)
    {
        if (damage.TotalRanges == 0)
        {
            return;
        }

        text.Append(CultureInfo.InvariantCulture, $"\nGuest ranges of '{fileName}' whose content is in doubt ({damage.TotalBytes} bytes in {damage.TotalRanges} ranges):\n");
        foreach (GuestRange range in damage.Ranges.Take(RangesShownMax))
        {
            string where = range.Snapshot is { } snapshot ? $"snapshot '{Printable(snapshot)}'" : "disk";
            text.Append(CultureInfo.InvariantCulture, $"    {where}: {range.Offset} to {range.End - 1} ({range.Length} bytes)\n");
        }

        if (damage.TotalRanges > RangesShownMax)
        {
            text.Append(CultureInfo.InvariantCulture, $"    ... and {damage.TotalRanges - RangesShownMax} more\n");
        }
    }

    // Names come from the image.
    private static string Printable(string name) => new([.. name.Select(letter => char.IsControl(letter) ? '?' : letter)]);

    private static string Percent(long part, long whole) => (part * 100.0 / whole).ToString("0.00", CultureInfo.InvariantCulture);
}
