using System.Diagnostics;
using BlockMount.Base;
using BlockMount.Base.Interop;

namespace BlockMount.Daemon.Hosting;

/// <summary>Reads from a fresh mount as any program would: only a mount that answers counts as ready.</summary>
internal static class MountProbe
{
    private const int BytesMax = 512;

    private static readonly TimeSpan s_limit = TimeSpan.FromSeconds(10);

    /// <summary>Opens the file and reads its first bytes. A medium error is an answer too.</summary>
    /// <exception cref="BlockMountException">No answer within ten seconds, or the mount refuses to be opened.</exception>
    public static async Task CheckAsync(string path)
    {
        // On a thread of its own: the pool has two threads at first, and the answer may need them.
        Task<Errno> probe = Task.Factory.StartNew(
            () => Probe(path), CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);
        if (await Task.WhenAny(probe, Task.Delay(s_limit)) != probe)
        {
            throw new BlockMountException($"the mount '{path}' does not answer", "Unmount it: blockmount umount, or umount -l.");
        }

        Errno errno = await probe;
        if (errno != Errno.None)
        {
            throw new BlockMountException($"could not read the mount '{path}': {ErrnoText.Describe(errno)}");
        }
    }

    private static unsafe Errno Probe(string path)
    {
        int fd = Libc.open(path, LinuxConstants.O_RDONLY | LinuxConstants.O_CLOEXEC, 0);
        if (fd < 0)
        {
            return Libc.LastErrno;
        }

        byte* buffer = stackalloc byte[BytesMax];
        nint count = Libc.pread(fd, buffer, BytesMax, 0);
        Errno errno = count < 0 ? Libc.LastErrno : Errno.None;
        _ = Libc.close(fd);
        Debug.Assert(count <= BytesMax);
        return errno == Errno.EIO ? Errno.None : errno;
    }
}
