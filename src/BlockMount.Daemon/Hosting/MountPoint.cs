using BlockMount.Base;
using BlockMount.Base.Interop;
using BlockMount.Exports.Fuse;

namespace BlockMount.Daemon.Hosting;

/// <summary>
/// The regular file that a device is mounted on. A missing one is made and removed again at the end. Making, mounting and
/// removing are separate steps, so that everything that can be refused is refused before the first.
/// </summary>
internal sealed class MountPoint
{
    private MountPoint(string fullPath, bool exists, bool made)
    {
        FullPath = fullPath;
        Exists = exists;
        Made = made;
    }

    /// <summary>Absolute, without symbolic links.</summary>
    public string FullPath { get; }

    /// <summary>The file is there.</summary>
    public bool Exists { get; private set; }

    /// <summary>This program made the file (now or, before a crash, earlier) and removes it at the end.</summary>
    public bool Made { get; private set; }

    /// <summary>Checks <paramref name="path"/> and clears a mount of ours whose daemon died. Makes nothing.</summary>
    /// <param name="madeBefore">Tells whether a dead daemon of ours had made the file.</param>
    /// <exception cref="BlockMountException">It cannot be mounted on.</exception>
    public static MountPoint Check(string path, Func<string, bool> madeBefore)
    {
        string full = HostPath.Canonical(path);
        ClearDeadMount(full);
        if (Directory.Exists(full))
        {
            throw new BlockMountException(
                $"'{path}' is a directory; the disk is shown as a file",
                $"Name a file instead, for example '{Path.Combine(path, "disk.img")}': it is made when it does not exist.");
        }

        if (File.Exists(full))
        {
            RefuseSpecialFile(path, full);
            return new MountPoint(full, exists: true, made: madeBefore(full));
        }

        RefuseClosedFolder(path, Path.GetDirectoryName(full) ?? "/");
        return new MountPoint(full, exists: false, made: true);
    }

    /// <summary>Makes the file (empty, 0600) where it does not exist.</summary>
    /// <exception cref="BlockMountException">It cannot be made.</exception>
    public void Make()
    {
        if (Exists)
        {
            return;
        }

        int fd = Libc.open(
            FullPath,
            LinuxConstants.O_WRONLY | LinuxConstants.O_CREAT | LinuxConstants.O_EXCL | LinuxConstants.O_CLOEXEC,
            0x180);
        if (fd < 0)
        {
            throw new BlockMountException(
                $"could not make the mount point '{FullPath}': {ErrnoText.Describe(Libc.LastErrno)}",
                "Choose a place that you may write to, or make the file first.");
        }

        _ = Libc.close(fd);
        Exists = true;
    }

    /// <summary>Removes the file if this program made it and nobody put anything into it meanwhile.</summary>
    public void Remove()
    {
        if (Made && Exists && MountTable.FindTop(FullPath) is null && new FileInfo(FullPath) is { Exists: true, Length: 0 })
        {
            File.Delete(FullPath);
            Exists = false;
        }
    }

    private static void ClearDeadMount(string full)
    {
        _ = FuseMount.ClearStale(full);
        if (MountTable.FindTop(full) is not { FileSystemType: FuseMount.FileSystemType } mount)
        {
            return;
        }

        throw new BlockMountException(
            $"'{full}' already shows '{mount.Source}'",
            $"Unmount it first: blockmount umount '{full}'");
    }

    private static void RefuseSpecialFile(string path, string full)
    {
        Mono.Unix.UnixFileSystemInfo file = Mono.Unix.UnixFileSystemInfo.GetFileSystemEntry(full);
        if (file.FileType != Mono.Unix.FileTypes.RegularFile)
        {
            throw new BlockMountException(
                $"'{path}' is not a regular file ({file.FileType})",
                "Name a regular file, or a name that does not exist yet.");
        }
    }

    private static void RefuseClosedFolder(string path, string folder)
    {
        if (Mono.Unix.Native.Syscall.access(folder, Mono.Unix.Native.AccessModes.W_OK | Mono.Unix.Native.AccessModes.X_OK) != 0)
        {
            string reason = Mono.Unix.UnixMarshal.GetErrorDescription(Mono.Unix.Native.Stdlib.GetLastError());
            throw new BlockMountException(
                $"could not make the mount point '{path}': {reason}",
                $"You may not write in '{folder}'. Choose another place, or make the file first.");
        }
    }
}
