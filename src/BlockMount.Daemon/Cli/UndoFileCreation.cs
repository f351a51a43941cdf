using BlockMount.Base;
using BlockMount.Base.Interop;
using BlockMount.Storage;
using Mono.Unix.Native;
using Errno = BlockMount.Base.Errno;

namespace BlockMount.Daemon.Cli;

/// <summary>Makes the undo file of a repair, name included, so that a power cut does not lose it: what it undoes survives the cut.</summary>
internal static class UndoFileCreation
{
    /// <summary>A new empty file; the caller owns it.</summary>
    /// <exception cref="BlockMountException">The file exists or cannot be made.</exception>
    public static async ValueTask<StorageFile> CreateAsync(string path)
    {
        StorageFile file = await PosixStorage.Instance.CreateAsync(path, new StorageCreateOptions { Mode = 0x180 /* 0600: it may hold guest data */ });
        try
        {
            await file.FlushAsync();
            SyncDirectory(Path.GetDirectoryName(Path.GetFullPath(path)) ?? "/");
            return file;
        }
        catch
        {
            await file.DisposeAsync();
            throw;
        }
    }

    private static void SyncDirectory(string directory)
    {
        int fd = Libc.open(directory, (int)(OpenFlags.O_RDONLY | OpenFlags.O_CLOEXEC), 0);
        Errno errno = fd < 0 ? Libc.LastErrno : Errno.None;
        if (fd >= 0)
        {
            errno = Libc.fsync(fd) == 0 ? Errno.None : Libc.LastErrno;
            _ = Libc.close(fd);
        }

        // Some file systems cannot sync a directory and say so; there a new name is as safe as it gets.
        if (errno is not (Errno.None or Errno.EINVAL))
        {
            throw new BlockIOException(errno, $"fsync of the directory '{directory}'");
        }
    }
}
