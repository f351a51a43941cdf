using System.Diagnostics;
using BlockMount.Base;
using BlockMount.Base.Interop;
using BlockMount.Exports.Fuse;

namespace BlockMount.Daemon.Hosting;

/// <summary>Takes a mount away from outside the daemon: by umount2(2) as root, through fusermount3 otherwise.</summary>
internal static class Unmounter
{
    // A program that ended a moment ago, or that is just starting another one, holds the file for an instant: not worth an error.
    private static readonly TimeSpan s_busyLimit = TimeSpan.FromMilliseconds(500);
    private static readonly TimeSpan s_busyStep = TimeSpan.FromMilliseconds(20);

    /// <summary>Unmounts <paramref name="path"/> (absolute, canonical). A mount whose daemon died is detached at once.</summary>
    /// <exception cref="BlockMountException">It is busy, or the kernel refused; a busy one names who holds it.</exception>
    public static async Task UnmountAsync(string path)
    {
        if (FuseMount.ClearStale(path))
        {
            return;
        }

        Stopwatch watch = Stopwatch.StartNew();
        while (!TryUnmount(path))
        {
            if (watch.Elapsed > s_busyLimit)
            {
                throw Busy(path);
            }

            await Task.Delay(s_busyStep);
        }
    }

    /// <summary>One attempt; false when it is busy.</summary>
    private static bool TryUnmount(string path)
    {
        if (LibcProcess.geteuid() == 0)
        {
            if (LibcProcess.umount2(path, LibcProcess.UMOUNT_NOFOLLOW) == 0)
            {
                return true;
            }

            Errno errno = Libc.LastErrno;
            return errno == Errno.EBUSY ? false : throw Refused(path, ErrnoText.Describe(errno));
        }

        return TryUnmountByFusermount(path);
    }

    private static bool TryUnmountByFusermount(string path)
    {
        ProcessStartInfo start = new("fusermount3", ["-u", "--", path]) { RedirectStandardError = true };
        using Process? process = Process.Start(start);
        if (process is null)
        {
            throw new BlockMountException("could not run fusermount3", "Install the package fuse3, or unmount as root.");
        }

        string error = process.StandardError.ReadToEnd().Trim();
        process.WaitForExit();
        if (process.ExitCode == 0)
        {
            return true;
        }

        return error.Contains("busy", StringComparison.OrdinalIgnoreCase) ? false : throw Refused(path, error);
    }

    private static BlockMountException Refused(string path, string why) => new($"could not unmount '{path}': {why}");

    private static BlockMountException Busy(string path)
    {
        List<string> holders = MountHolders.Find(path);
        string who = holders.Count == 0
            ? "No holder was found: it may run in another container or as another user (try as root)."
            : "Held by:\n" + string.Join('\n', holders.Select(holder => "  " + holder));
        return new BlockMountException(
            $"could not unmount '{path}': {ErrnoText.Describe(Errno.EBUSY)}",
            who + "\nEnd it, then run this again. Nothing was changed.");
    }
}
