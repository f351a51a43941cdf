using System.Globalization;

namespace BlockMount.Exports.Fuse.Ring;

/// <summary>Lists of processors as sysfs writes them: "0-3,8".</summary>
internal static class ProcessorList
{
    /// <summary>The processors that are "possible" or "online", ascending.</summary>
    /// <exception cref="Base.BlockMountException">sysfs is not mounted or does not say it.</exception>
    internal static IReadOnlyList<int> Read(string kind)
    {
        string path = $"/sys/devices/system/cpu/{kind}";
        try
        {
            return Parse(File.ReadAllText(path));
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException or FormatException)
        {
            throw new Base.BlockMountException($"Could not read '{path}': {error.Message}", "mount sysfs on /sys, or use '-o transport=dev'");
        }
    }

    /// <exception cref="FormatException">It is no such list.</exception>
    internal static IReadOnlyList<int> Parse(string text)
    {
        List<int> processors = [];
        foreach (string range in text.Trim().Split(',', StringSplitOptions.RemoveEmptyEntries))
        {
            string[] ends = range.Split('-');
            int first = int.Parse(ends[0], NumberStyles.None, CultureInfo.InvariantCulture);
            int last = int.Parse(ends[^1], NumberStyles.None, CultureInfo.InvariantCulture);
            if (ends.Length > 2 || last < first || last >= 1 << 16)
            {
                throw new FormatException($"'{range}' is no range of processors");
            }

            processors.AddRange(Enumerable.Range(first, last - first + 1));
        }

        return processors.Count > 0 ? processors : throw new FormatException("the list is empty");
    }
}
