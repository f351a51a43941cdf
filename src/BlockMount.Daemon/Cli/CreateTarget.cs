using System.Runtime.InteropServices;
using BlockMount.Base;
using BlockMount.Base.Interop;
using BlockMount.Storage;
using Mono.Unix.Native;
using Errno = BlockMount.Base.Errno;

namespace BlockMount.Daemon.Cli;

/// <summary>
/// Where a new image comes to be: a file with a temporary name beside the target, which takes the target's name when it is
/// complete and on stable storage. A failure or a signal leaves what was there before.
/// </summary>
internal static class CreateTarget
{
    // 0644 before the umask, as qemu-img.
    private const UnixFileMode NewFileMode =
        UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.GroupRead | UnixFileMode.OtherRead;

    // QEMU's default.
    private const uint ExtentSizeDefault = 1 << 20;

    /// <summary>Runs <paramref name="writeAsync"/> on a new file that then is called <paramref name="path"/>.</summary>
    /// <exception cref="BlockMountException">The file cannot be made, or an image of that name is in use.</exception>
    public static async ValueTask WriteAsync(IStorageOpener files, string path, NewFileHints hints, Func<StorageFile, ValueTask> writeAsync)
    {
        string target = TargetOf(path);
        bool exists = Syscall.stat(target, out Stat status) == 0;
        if (exists && (status.st_mode & FilePermissions.S_IFMT) == FilePermissions.S_IFDIR)
        {
            throw new BlockIOException(Errno.EISDIR, $"Could not create '{path}'");
        }

        if (!exists)
        {
            await ReplaceAsync(files, path, target, null, hints, writeAsync);
            return;
        }

        // Held to the end: an image that is in use is not replaced under its user, and nobody begins to use it meanwhile.
        await using StorageFile old = await files.OpenAsync(target, new StorageOpenOptions());
        if ((status.st_mode & FilePermissions.S_IFMT) == FilePermissions.S_IFREG)
        {
            await ReplaceAsync(files, path, target, status, hints, writeAsync);
        }
        else
        {
            // A block device has no name to swap.
            await writeAsync(old);
        }
    }

    // A symbolic link stays one: its target is replaced.
    private static string TargetOf(string path)
    {
        if (LibcPath.Resolve(path, out string real) == Errno.None)
        {
            return real;
        }

        return new FileInfo(path).LinkTarget is { } dangling
            ? throw new BlockMountException(
                $"Could not create '{path}': it is a symbolic link to '{dangling}', which does not exist",
                "Name the file itself, or remove the link")
            : Path.GetFullPath(path);
    }

    private static async ValueTask ReplaceAsync(
        IStorageOpener files, string path, string target, Stat? replaced, NewFileHints hints, Func<StorageFile, ValueTask> writeAsync)
    {
        string directory = Path.GetDirectoryName(target) ?? "/";
        string temporary = Path.Combine(directory, $".{Path.GetFileName(target)}.{Environment.ProcessId}.new");
        MakeFile(temporary, path, hints);
        using PosixSignalRegistration interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, _ => Remove(temporary));
        using PosixSignalRegistration terminate = PosixSignalRegistration.Create(PosixSignal.SIGTERM, _ => Remove(temporary));
        using PosixSignalRegistration hangup = PosixSignalRegistration.Create(PosixSignal.SIGHUP, _ => Remove(temporary));
        try
        {
            await using (StorageFile file = await files.OpenAsync(temporary, new StorageOpenOptions()))
            {
                await writeAsync(file);
            }

            if (replaced is { } old)
            {
                TakeOverPermissions(temporary, old);
            }

            File.Move(temporary, target, overwrite: true);
        }
        catch (Exception e)
        {
            Remove(temporary);
            if (e is BlockMountException known)
            {
                throw new BlockMountException($"Could not create '{path}': {known.Message}", known.Hint, e);
            }

            throw;
        }

        SyncDirectory(directory);
    }

    private static void MakeFile(string temporary, string path, NewFileHints hints)
    {
        try
        {
            using var file = new FileStream(temporary, new FileStreamOptions
            {
                Mode = FileMode.CreateNew,
                Access = FileAccess.Write,
                UnixCreateMode = NewFileMode,
            });
            Advise((int)file.SafeFileHandle.DangerousGetHandle(), path, hints);
        }
        catch (DirectoryNotFoundException e)
        {
            throw new BlockMountException(
                $"Could not create '{path}': {ErrnoText.Describe(Errno.ENOENT)}", $"Make the directory first: 'mkdir -p {Path.GetDirectoryName(path)}'", e);
        }
        catch (UnauthorizedAccessException e)
        {
            throw new BlockMountException(
                $"Could not create '{path}': {ErrnoText.Describe(Errno.EACCES)}", "The directory must be writable", e);
        }
        catch (IOException e)
        {
            throw new BlockMountException($"Could not create '{path}': {e.Message.TrimEnd('.')}", innerException: e);
        }
    }

    // As QEMU: most file systems know neither, and only a hint that was asked for is worth a word.
    private static void Advise(int fd, string path, NewFileHints hints)
    {
        if (hints.NoCow)
        {
            _ = FileHints.SetNoCow(fd);
        }

        uint extentSize = (uint)(hints.ExtentSize ?? ExtentSizeDefault);
        Errno errno = extentSize == 0 ? Errno.None : FileHints.SetExtentSize(fd, extentSize);
        if (errno != Errno.None && hints.ExtentSize is not null)
        {
            ErrorReport.Warn($"'{path}': the extent size hint could not be set: {ErrnoText.Describe(errno)}");
        }
    }

    // The owner can be kept by root only; for others the new file is theirs, as any file they make.
    private static void TakeOverPermissions(string temporary, in Stat old)
    {
        bool sameOwner = Syscall.chown(temporary, old.st_uid, old.st_gid) == 0;
        FilePermissions kept = sameOwner ? FilePermissions.ALLPERMS : FilePermissions.ACCESSPERMS;
        if (Syscall.chmod(temporary, old.st_mode & kept) != 0)
        {
            throw new BlockIOException((Errno)(int)Stdlib.GetLastError(), $"setting the mode of '{temporary}'");
        }
    }

    private static void Remove(string temporary)
    {
        if (Syscall.unlink(temporary) != 0 && Stdlib.GetLastError() is var errno and not Mono.Unix.Native.Errno.ENOENT)
        {
            Console.Error.WriteLine($"blockmount: could not remove '{temporary}': {ErrnoText.Describe((Errno)(int)errno)}");
        }
    }

    // The name, too, must survive a power cut.
    private static void SyncDirectory(string directory)
    {
        int fd = Libc.open(directory, (int)(OpenFlags.O_RDONLY | OpenFlags.O_CLOEXEC), 0);
        if (fd < 0)
        {
            throw new BlockIOException(Libc.LastErrno, $"opening the directory '{directory}'");
        }

        int result = Libc.fsync(fd);
        Errno errno = result == 0 ? Errno.None : Libc.LastErrno;
        _ = Libc.close(fd);
        // Some file systems cannot sync a directory and say so; there the rename is as safe as it gets.
        if (errno is not (Errno.None or Errno.EINVAL))
        {
            throw new BlockIOException(errno, $"fsync of the directory '{directory}'");
        }
    }
}

/// <summary>Advice for the file system about a new file.</summary>
/// <param name="NoCow">Overwrite in place where the file system would copy.</param>
/// <param name="ExtentSize">Bytes, at most 2^32 - 1; 0 for no hint, null for the default.</param>
internal readonly record struct NewFileHints(bool NoCow, long? ExtentSize);
