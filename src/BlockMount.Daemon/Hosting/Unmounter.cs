using BlockMount.Base;
using BlockMount.Base.Interop;
using BlockMount.Exports.Fuse;

namespace BlockMount.Daemon.Hosting;

/// <summary>Takes a mount away from outside the daemon: by umount2(2) as root, through fusermount3 otherwise.</summary>
internal static class Unmounter
{
    /// <summary>Unmounts <paramref name="path"/> (absolute, canonical). A mount whose daemon died is detached at once.</summary>
    /// <exception cref="BlockMountException">It is busy, or the kernel refused; a busy one names who holds it.</exception>
    public static void Unmount(string path)
    {
        if (FuseMount.ClearStale(path))
        {
            return;
        }

        if (LibcProcess.geteuid() == 0)
        {
            if (LibcProcess.umount2(path, LibcProcess.UMOUNT_NOFOLLOW) < 0)
            {
                Refuse(path, Libc.LastErrno, null);
            }

            return;
        }

        UnmountByFusermount(path);
    }

    private static void UnmountByFusermount(string path)
    {
        System.Diagnostics.ProcessStartInfo start = new("fusermount3", ["-u", "--", path]) { RedirectStandardError = true };
        using System.Diagnostics.Process? process = System.Diagnostics.Process.Start(start);
        if (process is null)
        {
            throw new BlockMountException("could not run fusermount3", "Install the package fuse3, or unmount as root.");
        }

        string error = process.StandardError.ReadToEnd().Trim();
        process.WaitForExit();
        if (process.ExitCode != 0)
        {
            bool busy = error.Contains("busy", StringComparison.OrdinalIgnoreCase);
            Refuse(path, busy ? Errno.EBUSY : Errno.EPERM, error);
        }
    }

    private static void Refuse(string path, Errno errno, string? told)
    {
        if (errno != Errno.EBUSY)
        {
            throw new BlockMountException($"could not unmount '{path}': {told ?? ErrnoText.Describe(errno)}");
        }

        List<string> holders = MountHolders.Find(path);
        string who = holders.Count == 0
            ? "No holder was found: it may run in another container or as another user (try as root)."
            : "Held by:\n" + string.Join('\n', holders.Select(holder => "  " + holder));
        throw new BlockMountException(
            $"could not unmount '{path}': {ErrnoText.Describe(errno)}",
            who + "\nEnd it, then run this again. Nothing was changed.");
    }
}
