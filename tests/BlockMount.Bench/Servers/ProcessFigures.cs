using System.Globalization;

namespace BlockMount.Bench.Servers;

/// <summary>What the kernel knows about a process.</summary>
internal static class ProcessFigures
{
    // Fixed for user space on every Linux, whatever the kernel counts with: USER_HZ.
    private const double TicksPerSecond = 100;

    /// <summary>User and system time used so far, all threads, in seconds; counted in steps of 10 ms.</summary>
    public static double CpuSeconds(int pid)
    {
        string stat = File.ReadAllText($"/proc/{pid}/stat");
        // The name, field 2, may hold spaces: fields are counted from behind it. 14: utime, 15: stime (proc(5)).
        string[] fields = stat[(stat.LastIndexOf(')') + 2)..].Split(' ');
        long ticks = long.Parse(fields[14 - 3], CultureInfo.InvariantCulture) + long.Parse(fields[15 - 3], CultureInfo.InvariantCulture);
        return ticks / TicksPerSecond;
    }

    /// <summary>Resident memory in bytes.</summary>
    public static long ResidentBytes(int pid)
    {
        string line = File.ReadLines($"/proc/{pid}/status").First(text => text.StartsWith("VmRSS:", StringComparison.Ordinal));
        return long.Parse(line.Split(' ', StringSplitOptions.RemoveEmptyEntries)[1], CultureInfo.InvariantCulture) << 10;
    }

    /// <summary>Open descriptors of io_uring instances.</summary>
    public static int RingCount(int pid) => Directory.EnumerateFileSystemEntries($"/proc/{pid}/fd")
        .Count(fd => new FileInfo(fd).LinkTarget?.Contains("[io_uring]", StringComparison.Ordinal) == true);
}
