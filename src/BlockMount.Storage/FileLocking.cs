using System.Diagnostics;
using BlockMount.Base;
using BlockMount.Base.Interop;

namespace BlockMount.Storage;

/// <summary>
/// QEMU's image locks, byte for byte (FEATURES K1-K17): a shared lock on byte 100+i says "I hold permission i", on 200+i "nobody
/// else may hold it". They belong to the open file description and end when it is closed. Blocking (network file systems).
/// </summary>
internal static unsafe class FileLocking
{
    private const int HeldByte = 100;
    private const int UnsharedByte = 200;
    private const int PermissionCount = 4;

    // A lock that no process holds: the kernel still ends the I/O of one that was killed, and lets go of its files, and of their locks, only then.
    private static readonly TimeSpan s_orphanPatience = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan s_orphanPause = TimeSpan.FromMilliseconds(20);

    private static readonly string[] s_names = ["consistent read", "write", "write unchanged", "resize"];

    /// <summary>
    /// Changes the locks of <paramref name="fd"/> from <paramref name="before"/> to <paramref name="after"/>: the union is
    /// locked and tested, then what is no longer needed is given up, so that no moment is unprotected (K6).
    /// </summary>
    /// <remarks>Waits a second at most where a lock is in the way that no process of this host is seen to hold.</remarks>
    /// <exception cref="BlockMountException">Somebody is in the way; the locks are as before.</exception>
    public static void Change(int fd, string path, LockProfile before, LockProfile after) => Change(fd, path, before, after, tested: after);

    /// <summary>The same, when <paramref name="after"/> holds more than what the others are asked about.</summary>
    public static void Change(int fd, string path, LockProfile before, LockProfile after, LockProfile tested)
    {
        for (Stopwatch watch = Stopwatch.StartNew(); ; Thread.Sleep(s_orphanPause))
        {
            try
            {
                ChangeOnce(fd, path, before, after, tested);
                return;
            }
            catch (LockConflictException conflict)
            {
                if (!conflict.HasNoHolder || watch.Elapsed >= s_orphanPatience)
                {
                    throw new BlockMountException(conflict.Message, conflict.Hint);
                }
            }
        }
    }

    private static void ChangeOnce(int fd, string path, LockProfile before, LockProfile after, LockProfile tested)
    {
        LockProfile union = before.Union(after);
        try
        {
            LockNew(fd, path, before, union);
            TestAll(fd, path, tested);
        }
        catch
        {
            Unlock(fd, union, before);
            throw;
        }

        Unlock(fd, union, after);
    }

    /// <summary>Gives up what <paramref name="after"/> does not need. Asks nobody and cannot fail.</summary>
    public static void Loosen(int fd, LockProfile before, LockProfile after) => Unlock(fd, before, after);

    /// <summary>Locks for a new descriptor what another one of this process has asked the others for. The locks are shared ones, so they are in nobody's way.</summary>
    public static void Copy(int fd, string path, LockProfile profile) => LockNew(fd, path, LockProfile.None, profile);

    /// <summary>
    /// Gives up every lock before the descriptor is closed. Closing alone is too late sometimes: while this process is
    /// starting another one, the child holds a copy of the descriptor, and the locks with it, until it has executed its
    /// program.
    /// </summary>
    public static void Release(int fd)
    {
        LockProfile all = new((LockPermissions)((1 << PermissionCount) - 1), (LockPermissions)((1 << PermissionCount) - 1));
        Unlock(fd, all, LockProfile.None);
    }

    private static void LockNew(int fd, string path, LockProfile before, LockProfile union)
    {
        for (int i = 0; i < PermissionCount; i++)
        {
            var permission = (LockPermissions)(1 << i);
            if (union.Held.HasFlag(permission) && !before.Held.HasFlag(permission))
            {
                LockByte(fd, path, HeldByte + i);
            }

            if (union.Unshared.HasFlag(permission) && !before.Unshared.HasFlag(permission))
            {
                LockByte(fd, path, UnsharedByte + i);
            }
        }
    }

    private static void TestAll(int fd, string path, LockProfile profile)
    {
        for (int i = 0; i < PermissionCount; i++)
        {
            if (profile.Held.HasFlag((LockPermissions)(1 << i)) && IsTaken(fd, path, UnsharedByte + i))
            {
                throw NewConflict(fd, path, $"Failed to get \"{s_names[i]}\" lock", UnsharedByte + i);
            }
        }

        for (int i = 0; i < PermissionCount; i++)
        {
            if (profile.Unshared.HasFlag((LockPermissions)(1 << i)) && IsTaken(fd, path, HeldByte + i))
            {
                throw NewConflict(fd, path, $"Failed to get shared \"{s_names[i]}\" lock", HeldByte + i);
            }
        }
    }

    private static void Unlock(int fd, LockProfile from, LockProfile to)
    {
        for (int i = 0; i < PermissionCount; i++)
        {
            var permission = (LockPermissions)(1 << i);
            if (from.Held.HasFlag(permission) && !to.Held.HasFlag(permission))
            {
                UnlockByte(fd, HeldByte + i);
            }

            if (from.Unshared.HasFlag(permission) && !to.Unshared.HasFlag(permission))
            {
                UnlockByte(fd, UnsharedByte + i);
            }
        }
    }

    private static void LockByte(int fd, string path, int position)
    {
        Errno errno = Control(fd, LinuxConstants.F_OFD_SETLK, LinuxConstants.F_RDLCK, position, out _);
        if (errno is Errno.EAGAIN or Errno.EACCES)
        {
            // QEMU never locks exclusively, so this is some other program.
            throw NewConflict(fd, path, $"Failed to lock byte {position}", position);
        }

        if (errno != Errno.None)
        {
            throw new BlockMountException(
                $"Could not open '{path}': Failed to lock byte {position}: {ErrnoText.Describe(errno)}",
                "The file system does not support file locks. If nobody else uses the image, open it with locking off.");
        }
    }

    // Cannot fail for a byte of ours on a valid descriptor; should it, closing the descriptor gives everything back.
    private static void UnlockByte(int fd, int position) =>
        _ = Control(fd, LinuxConstants.F_OFD_SETLK, LinuxConstants.F_UNLCK, position, out _);

    private static bool IsTaken(int fd, string path, int position)
    {
        Errno errno = Control(fd, LinuxConstants.F_OFD_GETLK, LinuxConstants.F_WRLCK, position, out short type);
        return errno == Errno.None
            ? type != LinuxConstants.F_UNLCK
            : throw new BlockMountException($"Could not open '{path}': Failed to test the lock of byte {position}: {ErrnoText.Describe(errno)}");
    }

    private static Errno Control(int fd, int command, short type, int position, out short found)
    {
        FlockStruct request = new() { Type = type, Whence = 0, Start = position, Length = 1, Pid = 0 };
        int result;
        Errno errno;
        do
        {
            result = Libc.fcntl(fd, command, &request);
            errno = result == 0 ? Errno.None : Libc.LastErrno;
        }
        while (errno == Errno.EINTR);

        found = request.Type;
        return errno;
    }

    private static LockConflictException NewConflict(int fd, string path, string reason, int position)
    {
        IReadOnlyList<LockHolder> holders = LockHolder.Find(fd, position);
        if (holders.Count == 0)
        {
            return new LockConflictException(
                hasNoHolder: true,
                $"Could not open '{path}': {reason}",
                $"Is another process using the image [{path}]? It is on another host, or its process may not be looked at; 'sudo lsof {path}' shows those of this host.");
        }

        string who = string.Join(", ", holders.Select(holder => $"process {holder.Pid} ({holder.Command})"));
        return new LockConflictException(
            hasNoHolder: false,
            $"Could not open '{path}': {reason}, held by {who}",
            $"Is another process using the image [{path}]? End it first, or open the image so that both agree to share it (read-only, force-share or share-rw).");
    }
}
