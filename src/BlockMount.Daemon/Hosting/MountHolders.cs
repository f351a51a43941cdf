using System.Diagnostics;
using System.Globalization;

namespace BlockMount.Daemon.Hosting;

/// <summary>Finds who keeps a mounted file busy: processes with it open or mapped, loop devices, mounts on top.</summary>
internal static class MountHolders
{
    // A machine with very many processes must not hold up the error message.
    private static readonly TimeSpan s_limit = TimeSpan.FromSeconds(1);

    private const int HoldersMax = 10;

    /// <summary>One line per holder, as "pid 123 (dd)"; at most ten, found within a second.</summary>
    public static List<string> Find(string path)
    {
        List<string> holders = LoopDevices(path);
        Stopwatch watch = Stopwatch.StartNew();
        foreach (string process in Directory.EnumerateDirectories("/proc"))
        {
            if (watch.Elapsed > s_limit || holders.Count >= HoldersMax)
            {
                break;
            }

            if (int.TryParse(Path.GetFileName(process), NumberStyles.None, CultureInfo.InvariantCulture, out int pid)
                && pid != Environment.ProcessId
                && Holds(process, path) is { } how)
            {
                holders.Add($"pid {pid} ({CommandOf(process)}) {how}");
            }
        }

        return holders;
    }

    private static List<string> LoopDevices(string path)
    {
        List<string> found = [];
        foreach (string device in Directory.EnumerateDirectories("/sys/block", "loop*"))
        {
            string backing = Path.Combine(device, "loop", "backing_file");
            if (TryReadText(backing)?.TrimEnd('\n') == path)
            {
                found.Add($"/dev/{Path.GetFileName(device)} (detach it: losetup -d /dev/{Path.GetFileName(device)})");
            }
        }

        return found;
    }

    private static string? Holds(string process, string path)
    {
        try
        {
            foreach (string descriptor in Directory.EnumerateFileSystemEntries(Path.Combine(process, "fd")))
            {
                if (new FileInfo(descriptor).LinkTarget == path)
                {
                    return $"has it open as descriptor {Path.GetFileName(descriptor)}";
                }
            }

            return File.ReadLines(Path.Combine(process, "maps")).Any(line => line.EndsWith(" " + path, StringComparison.Ordinal))
                ? "has it mapped"
                : null;
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            // It ended meanwhile, or belongs to somebody else.
            return null;
        }
    }

    private static string CommandOf(string process) => TryReadText(Path.Combine(process, "comm"))?.TrimEnd('\n') ?? "?";

    private static string? TryReadText(string path)
    {
        try
        {
            return File.ReadAllText(path);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }
}
