using System.Diagnostics;
using BlockMount.Base;

namespace BlockMount.Daemon.Registry;

/// <summary>Watches a daemon end from another process, and tells how it went.</summary>
internal static class DaemonEnd
{
    // flock has no timed form; the end is near when this is asked, so the steps are short.
    private static readonly TimeSpan s_stepMax = TimeSpan.FromMilliseconds(50);

    /// <summary>Waits until the lock of the daemon's entry is free, that is until its process has ended.</summary>
    /// <returns>False when <paramref name="timeout"/> passed first.</returns>
    public static async Task<bool> WaitAsync(RegisteredDaemon daemon, EntryFile entry, TimeSpan timeout)
    {
        Stopwatch watch = Stopwatch.StartNew();
        TimeSpan step = TimeSpan.FromMilliseconds(2);
        while (IsHeldByAny(daemon, entry))
        {
            if (watch.Elapsed >= timeout)
            {
                return false;
            }

            await Task.Delay(step);
            step = step * 2 < s_stepMax ? step * 2 : s_stepMax;
        }

        return true;
    }

    /// <summary>Reports what the ended daemon left: nothing after a clean end, a failure, or an entry of one that was killed.</summary>
    /// <exception cref="BlockMountException">The last flush or close failed. The entry is removed: it has been told.</exception>
    public static int Conclude(RegisteredDaemon daemon)
    {
        using EntryFile? left = EntryFile.TryOpen(daemon.Path);
        RegistryEntry? entry = left?.Read();
        if (entry is null || entry.Pid != daemon.Entry.Pid || entry.StartTicks != daemon.Entry.StartTicks)
        {
            return ExitCodes.Success;
        }

        if (daemon.Own)
        {
            File.Delete(daemon.Path);
        }

        if (entry.CloseError is not null)
        {
            throw new BlockMountException(
                $"unmounted, but '{entry.Image}' could not be closed cleanly: {entry.CloseError}",
                "The last writes may be missing. Look at the host's disk (dmesg, df), then check the image.");
        }

        if (daemon.Own && entry.MountPointMade && entry.MountPoint is not null && new FileInfo(entry.MountPoint) is { Exists: true, Length: 0 })
        {
            File.Delete(entry.MountPoint);
        }

        Cli.ErrorReport.Warn(
            $"the daemon (pid {entry.Pid}) had died before; what was flushed is in '{entry.Image}', later writes are lost");
        return ExitCodes.Success;
    }

    // A daemon that changes its entry locks the new file before it lets the old one go: look at both.
    private static bool IsHeldByAny(RegisteredDaemon daemon, EntryFile entry)
    {
        if (entry.IsHeld())
        {
            return true;
        }

        using EntryFile? current = EntryFile.TryOpen(entry.Path);
        return current?.Read() is { } now && now.Pid == daemon.Entry.Pid && now.StartTicks == daemon.Entry.StartTicks && current.IsHeld();
    }
}
