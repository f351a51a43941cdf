using BlockMount.Base;
using BlockMount.Base.Interop;

namespace BlockMount.Storage;

/// <summary>Opens and creates files of the host. Stateless, thread-safe; everything that may block runs on an I/O thread.</summary>
public sealed class PosixStorage : IStorageOpener, IStorageCreator
{
    private readonly IoThreads _threads;

    private PosixStorage(IoThreads threads)
    {
        _threads = threads;

        // The first use resolves the function behind it, which may change errno. Do that now and not after a failed call.
        _ = Libc.LastErrno;
    }

    /// <summary>The one instance that is needed.</summary>
    public static PosixStorage Instance { get; } = new(IoThreads.Shared);

    /// <summary>
    /// Why files that were opened so far and would be best served by io_uring are not (<see cref="IoEngine.Auto"/>); null if nothing stood in the way.
    /// </summary>
    public static string? IoUringObstacle => TransferEngines.Obstacle;

    /// <inheritdoc/>
    public async ValueTask<StorageFile> OpenAsync(string path, StorageOpenOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        StorageFile? file = null;
        await _threads.RunAsync(() => file = Open(path, options));
        return file!;
    }

    /// <inheritdoc/>
    public async ValueTask<StorageFile> ReopenAsync(StorageFile file, StorageOpenOptions options)
    {
        if (file is not PosixFile known)
        {
            return await OpenAsync(file.Name, options);
        }

        StorageFile? reopened = null;
        await _threads.RunAsync(() => reopened = Reopen(known, options));
        return reopened!;
    }

    /// <inheritdoc/>
    public async ValueTask<NewFile> CreateAsync(string path, StorageOpenOptions options)
    {
        NewFile? file = null;
        await _threads.RunAsync(() => file = CreateNew(path, options));
        return file!;
    }

    /// <summary>
    /// Creates a file and hands it out open and locked. An existing file (see <see cref="StorageCreateOptions.Overwrite"/>) is
    /// emptied only after its locks were taken: on a conflict nothing has changed.
    /// </summary>
    /// <exception cref="BlockMountException">The file exists, cannot be made, or is in use.</exception>
    public async ValueTask<StorageFile> CreateAsync(string path, StorageCreateOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentOutOfRangeException.ThrowIfNegative(options.Length);
        ArgumentOutOfRangeException.ThrowIfEqual(options.Open.ReadOnly, true);
        StorageFile? file = null;
        await _threads.RunAsync(() => file = Create(path, options));
        return file!;
    }

    private static PosixFile Open(string path, StorageOpenOptions options)
    {
        LockProfile profile = LockProfile.For(options);
        RefuseOtherTypes(path, options.ReadOnly);
        int access = options.ReadOnly ? LinuxConstants.O_RDONLY : LinuxConstants.O_RDWR;
        int fd = OpenDescriptor(path, access, options, mode: 0);
        return Finish(fd, path, options, () => FileLocking.Change(fd, path, LockProfile.None, profile));
    }

    private static PosixFile Reopen(PosixFile file, StorageOpenOptions options)
    {
        LockProfile after = LockProfile.For(options);
        int access = options.ReadOnly ? LinuxConstants.O_RDONLY : LinuxConstants.O_RDWR;
        return FileReopening.Run(file.Descriptor, file.Name, LockProfile.For(file.Options), after, takeLocks =>
        {
            // Through the descriptor and not by name: it must be the same file even if the name has moved.
            int fd = OpenDescriptor($"/proc/self/fd/{file.Descriptor}", access, options, mode: 0, name: file.Name);
            return Finish(fd, file.Name, options, () => takeLocks(fd));
        });
    }

    private PosixNewFile CreateNew(string path, StorageOpenOptions options)
    {
        string target = LibcPath.Resolve(path, out string real) == Errno.None ? real : Path.GetFullPath(path);
        PosixFile? replaced = FileStatus.Get(target, out _) == Errno.ENOENT ? null : Open(target, new StorageOpenOptions());
        string temporary = PosixNewFile.TemporaryFor(target);
        try
        {
            if (replaced is { IsBlockDevice: true })
            {
                throw new BlockMountException($"Could not create '{path}': it is a block device", "Create the image beforehand, and use it with mode existing");
            }

            int fd = OpenDescriptor(temporary, LinuxConstants.O_RDWR | LinuxConstants.O_CREAT | LinuxConstants.O_EXCL, options, new StorageCreateOptions().Mode, name: path);
            LockProfile profile = LockProfile.For(options);
            PosixFile file = Finish(fd, path, options, () => FileLocking.Change(fd, path, LockProfile.None, profile));
            return new PosixNewFile(_threads, file, temporary, target, replaced);
        }
        catch
        {
            // Nothing of it is in flight, so this completes at once.
            replaced?.DisposeAsync().AsTask().GetAwaiter().GetResult();
            throw;
        }
    }

    private static PosixFile Create(string path, StorageCreateOptions options)
    {
        LockProfile profile = LockProfile.For(options.Open);
        bool isNew = !options.Overwrite || FileStatus.Get(path, out _) == Errno.ENOENT;
        if (!isNew)
        {
            RefuseOtherTypes(path, readOnly: false);
        }

        // O_EXCL also where overwriting is allowed: what appears in between is not ours to empty without its locks.
        int creation = isNew ? LinuxConstants.O_CREAT | LinuxConstants.O_EXCL : 0;
        int fd = OpenDescriptor(path, LinuxConstants.O_RDWR | creation, options.Open, options.Mode);
        try
        {
            return Finish(fd, path, options.Open, () => EmptyLocked(fd, path, options, profile));
        }
        catch when (isNew)
        {
            // Made by us a moment ago and of no use to anybody.
            File.Delete(path);
            throw;
        }
    }

    private static void EmptyLocked(int fd, string path, StorageCreateOptions options, LockProfile profile)
    {
        LockProfile create = options.Open.Lock ? LockProfile.Create : LockProfile.None;
        FileLocking.Change(fd, path, LockProfile.None, create);
        if (FileStatus.Get(fd, out StatxBuffer status) == Errno.None && status.FileType == FileStatus.S_IFREG)
        {
            Truncate(fd, path, 0);
            Truncate(fd, path, options.Length);
        }
        else if (FileStatus.GetDeviceSize(fd, out long size) == Errno.None && size < options.Length)
        {
            throw new BlockMountException(
                $"Could not create '{path}': the device has {size} bytes, {options.Length} are needed", "Use a larger device or a smaller image.");
        }

        FileLocking.Change(fd, path, create, profile);
    }

    private static void Truncate(int fd, string path, long length)
    {
        Errno errno;
        do
        {
            errno = Libc.ftruncate(fd, length) == 0 ? Errno.None : Libc.LastErrno;
        }
        while (errno == Errno.EINTR);

        if (errno != Errno.None)
        {
            throw OpenFailure.Describe("create", path, errno, readOnly: false);
        }
    }

    // Takes over fd: it is in the result or closed.
    private static PosixFile Finish(int fd, string path, StorageOpenOptions options, Action takeLocks)
    {
        int bufferedFd = fd;
        try
        {
            Errno errno = FileStatus.Get(fd, out StatxBuffer status);
            if (errno != Errno.None)
            {
                throw OpenFailure.Describe("open", path, errno, options.ReadOnly);
            }

            // Looked at before the open too; this time it is the very file.
            OpenFailure.RefuseType(path, status.FileType);
            takeLocks();
            DirectAlignment? alignment = null;
            if (options.Direct)
            {
                alignment = DirectAlignment.Query(fd, status);
                bufferedFd = OpenBuffered(fd, path, options.ReadOnly);
            }

            // O_NONBLOCK was for the open only.
            _ = FileStatus.SetFlags(fd, options.Direct ? LinuxConstants.O_DIRECT : 0);
            ITransferEngine engine = TransferEngines.For(path, options);
            PosixHandle handle = new(fd, bufferedFd, path, status.FileType == FileStatus.S_IFBLK);
            return new PosixFile(handle, options, alignment, engine);
        }
        catch
        {
            if (bufferedFd != fd)
            {
                _ = Libc.close(bufferedFd);
            }

            _ = Libc.close(fd);
            throw;
        }
    }

    private static int OpenDescriptor(string path, int flags, StorageOpenOptions options, uint mode, string? name = null)
    {
        // O_NONBLOCK: a FIFO that took the file's place since it was looked at must not hang us.
        flags |= LinuxConstants.O_CLOEXEC | LinuxConstants.O_NONBLOCK | (options.Direct ? LinuxConstants.O_DIRECT : 0);
        while (true)
        {
            int fd = Libc.open(path, flags, mode);
            if (fd >= 0)
            {
                return fd;
            }

            Errno errno = Libc.LastErrno;
            if (errno != Errno.EINTR)
            {
                string verb = (flags & LinuxConstants.O_CREAT) != 0 ? "create" : "open";
                throw errno == Errno.EINVAL && options.Direct
                    ? OpenFailure.DirectUnsupported(name ?? path)
                    : OpenFailure.Describe(verb, name ?? path, errno, options.ReadOnly);
            }
        }
    }

    // Through the descriptor and not by name: it must be the same file even if the name has moved.
    private static int OpenBuffered(int fd, string path, bool readOnly)
    {
        int access = readOnly ? LinuxConstants.O_RDONLY : LinuxConstants.O_RDWR;
        int buffered = Libc.open($"/proc/self/fd/{fd}", access | LinuxConstants.O_CLOEXEC, 0);
        return buffered >= 0 ? buffered : throw OpenFailure.Describe("open", path, Libc.LastErrno, readOnly);
    }

    // Before the open, which for some devices has effects of its own (a tape rewinds, a terminal hangs up).
    private static void RefuseOtherTypes(string path, bool readOnly)
    {
        Errno errno = FileStatus.Get(path, out StatxBuffer status);
        if (errno != Errno.None)
        {
            throw OpenFailure.Describe("open", path, errno, readOnly);
        }

        OpenFailure.RefuseType(path, status.FileType);
    }
}
