using System.Globalization;
using BlockMount.Base;
using BlockMount.Base.Interop;

namespace BlockMount.Storage;

/// <summary>
/// A process of this host that holds an image lock. /proc/locks names no process for locks of this kind (its pid is -1), so
/// every process's /proc/PID/fdinfo is looked through: slow, and only done to word an error.
/// </summary>
internal sealed record LockHolder(int Pid, string Command)
{
    private const int HoldersMax = 3;
    private const int CommandLengthMax = 80;

    /// <summary>Holders of a lock on byte <paramref name="position"/> of the file behind <paramref name="fd"/>, this descriptor excepted.</summary>
    public static IReadOnlyList<LockHolder> Find(int fd, int position)
    {
        List<LockHolder> holders = [];
        if (FileStatus.Get(fd, out StatxBuffer file) != Errno.None)
        {
            return holders;
        }

        foreach (string process in List("/proc"))
        {
            if (int.TryParse(Path.GetFileName(process), NumberStyles.None, CultureInfo.InvariantCulture, out int pid) &&
                HoldsLock(process, pid == Environment.ProcessId ? fd : -1, file, position))
            {
                holders.Add(new LockHolder(pid, ReadCommand(process)));
                if (holders.Count == HoldersMax)
                {
                    break;
                }
            }
        }

        return holders;
    }

    private static bool HoldsLock(string process, int exceptFd, StatxBuffer file, int position)
    {
        foreach (string description in List(Path.Combine(process, "fdinfo")))
        {
            string number = Path.GetFileName(description);
            if (number == exceptFd.ToString(CultureInfo.InvariantCulture) || !LocksByte(Read(description), file.Inode, position))
            {
                continue;
            }

            // Inode numbers repeat from one file system to the next.
            if (FileStatus.Get(Path.Combine(process, "fd", number), out StatxBuffer other) == Errno.None &&
                other.Inode == file.Inode && other.DeviceMajor == file.DeviceMajor && other.DeviceMinor == file.DeviceMinor)
            {
                return true;
            }
        }

        return false;
    }

    // lock:   1: OFDLCK  ADVISORY  READ -1 fe:00:131 100 100
    //                    device in hex:inode in decimal  first byte, last byte or EOF
    private static bool LocksByte(string fdinfo, ulong inode, int position)
    {
        foreach (string line in fdinfo.Split('\n'))
        {
            string[] words = line.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries);
            if (words.Length < 8 || words[0] != "lock:" || !words[^3].EndsWith($":{inode}", StringComparison.Ordinal))
            {
                continue;
            }

            bool inside = long.TryParse(words[^2], out long first) && first <= position &&
                (words[^1] == "EOF" || (long.TryParse(words[^1], out long last) && last >= position));
            if (inside)
            {
                return true;
            }
        }

        return false;
    }

    private static string ReadCommand(string process)
    {
        string command = Read(Path.Combine(process, "cmdline")).Replace('\0', ' ').Trim();
        if (command.Length == 0)
        {
            command = Read(Path.Combine(process, "comm")).Trim();
        }

        return command.Length <= CommandLengthMax ? command : string.Concat(command.AsSpan(0, CommandLengthMax), "...");
    }

    // Processes end while we look and others are not ours to look at; both mean "nothing to see here".
    private static string[] List(string directory)
    {
        try
        {
            return Directory.GetFileSystemEntries(directory);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            return [];
        }
    }

    private static string Read(string path)
    {
        try
        {
            return File.ReadAllText(path);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            return "";
        }
    }
}
