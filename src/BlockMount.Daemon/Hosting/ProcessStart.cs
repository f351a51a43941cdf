using System.Globalization;

namespace BlockMount.Daemon.Hosting;

/// <summary>When this process began, as the kernel counts.</summary>
internal static class ProcessStart
{
    /// <summary>Field 22 of /proc/self/stat: clock ticks since boot.</summary>
    public static long Ticks()
    {
        // The command in field 2 may hold spaces and parentheses: count from the last one.
        string stat = File.ReadAllText("/proc/self/stat");
        string[] fields = stat[(stat.LastIndexOf(')') + 2)..].Split(' ');
        return long.Parse(fields[22 - 3], CultureInfo.InvariantCulture);
    }
}
