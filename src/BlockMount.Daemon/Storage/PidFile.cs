using System.Globalization;
using BlockMount.Base;
using BlockMount.Base.Interop;
using Microsoft.Win32.SafeHandles;

namespace BlockMount.Daemon.Storage;

/// <summary>A file with this process's number, of mode 0600, locked as long as the process lives. Removed on disposal.</summary>
internal sealed unsafe class PidFile : IDisposable
{
    private const UnixFileMode Mode = UnixFileMode.UserRead | UnixFileMode.UserWrite;

    private readonly string _path;
    private readonly SafeFileHandle _file;

    private PidFile(string path, SafeFileHandle file)
    {
        _path = path;
        _file = file;
    }

    /// <summary>Makes the file, or takes one over that nobody holds.</summary>
    /// <exception cref="BlockMountException">It cannot be made, or another process holds it; in QEMU's words.</exception>
    public static PidFile Write(string path)
    {
        int fd = Libc.open(path, LinuxConstants.O_RDWR | LinuxConstants.O_CREAT | LinuxConstants.O_CLOEXEC, (uint)Mode);
        if (fd < 0)
        {
            throw new BlockMountException($"cannot create PID file: Could not create '{path}': {ErrnoText.Describe(Libc.LastErrno)}");
        }

        SafeFileHandle file = new(fd, ownsHandle: true);
        FlockStruct whole = new() { Type = LinuxConstants.F_WRLCK };
        if (Libc.fcntl(fd, LinuxConstants.F_OFD_SETLK, &whole) < 0)
        {
            Errno errno = Libc.LastErrno;
            file.Dispose();
            throw new BlockMountException($"cannot create PID file: Cannot lock pid file: {ErrnoText.Describe(errno)}");
        }

        RandomAccess.SetLength(file, 0);
        RandomAccess.Write(file, System.Text.Encoding.ASCII.GetBytes(Environment.ProcessId.ToString(CultureInfo.InvariantCulture) + "\n"), 0);
        return new PidFile(path, file);
    }

    /// <summary>Removes the file, then lets it go.</summary>
    public void Dispose()
    {
        try
        {
            File.Delete(_path);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            // Its folder is gone or locked. The lock ends, so a later daemon can take the file over.
        }

        _file.Dispose();
    }
}
