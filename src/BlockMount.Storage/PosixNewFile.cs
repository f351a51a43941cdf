using BlockMount.Base;
using BlockMount.Base.Interop;

namespace BlockMount.Storage;

/// <summary>
/// A new file of the host: it has a temporary name beside its own until it is published. A file that it replaces has that name from then on, until this is disposed, so that it can be put back.
/// </summary>
internal sealed class PosixNewFile : NewFile
{
    private readonly IoThreads _threads;
    private readonly string _temporary;
    private readonly string _target;

    // The file to be replaced, open for its locks; null if there was none.
    private readonly StorageFile? _replaced;
    private bool _published;

    // What was replaced has the temporary name. False where the file system cannot exchange names: then it is gone.
    private bool _exchanged;

    internal PosixNewFile(IoThreads threads, StorageFile file, string temporary, string target, StorageFile? replaced)
    {
        _threads = threads;
        File = file;
        _temporary = temporary;
        _target = target;
        _replaced = replaced;
    }

    /// <inheritdoc/>
    public override StorageFile File { get; }

    /// <summary>The name of the file until it is published.</summary>
    internal static string TemporaryFor(string target) =>
        Path.Combine(Path.GetDirectoryName(target) ?? "/", $".{Path.GetFileName(target)}.{Environment.ProcessId}.new");

    /// <inheritdoc/>
    public override async ValueTask PublishAsync()
    {
        await _threads.RunAsync(() =>
        {
            try
            {
                _exchanged = _replaced is not null && TryExchange();
                if (!_exchanged)
                {
                    System.IO.File.Move(_temporary, _target, overwrite: true);
                }
            }
            catch (Exception error) when (error is IOException or UnauthorizedAccessException)
            {
                throw new BlockMountException($"Could not create '{File.Name}': {error.Message}", innerException: error);
            }

            _published = true;
            SyncDirectory();
        });
    }

    /// <inheritdoc/>
    public override async ValueTask WithdrawAsync()
    {
        if (_published && _replaced is null)
        {
            await _threads.RunAsync(() => System.IO.File.Delete(_target));
        }
        else if (_exchanged)
        {
            await _threads.RunAsync(() =>
            {
                if (!TryExchange())
                {
                    // Then nobody removes it.
                    _exchanged = false;
                    throw new BlockMountException($"Could not put back '{_target}', which is '{_temporary}' now");
                }

                // Disposal removes the new file by its temporary name.
                (_exchanged, _published) = (false, false);
                SyncDirectory();
            });
        }
    }

    /// <inheritdoc/>
    public override async ValueTask DisposeAsync()
    {
        if (!_published || _exchanged)
        {
            await _threads.RunAsync(() => System.IO.File.Delete(_temporary));
        }

        await (_replaced?.DisposeAsync() ?? ValueTask.CompletedTask);
    }

    // Not possible on some file systems (EINVAL), and not needed where there is nothing to put back.
    private bool TryExchange() =>
        Libc.renameat2(LibcMount.AT_FDCWD, _temporary, LibcMount.AT_FDCWD, _target, LinuxConstants.RENAME_EXCHANGE) == 0;

    // The name, too, must survive a power cut.
    private void SyncDirectory()
    {
        string directory = Path.GetDirectoryName(_target) ?? "/";
        int fd = Libc.open(directory, LinuxConstants.O_RDONLY | LinuxConstants.O_CLOEXEC, 0);
        Errno errno = fd < 0 || Libc.fsync(fd) != 0 ? Libc.LastErrno : Errno.None;
        if (fd >= 0)
        {
            _ = Libc.close(fd);
        }

        // Some file systems cannot sync a directory and say so; there the rename is as safe as it gets.
        if (errno is not (Errno.None or Errno.EINVAL))
        {
            throw new BlockIOException(errno, $"fsync of the directory '{directory}'");
        }
    }
}
