using System.Net;
using System.Net.Sockets;
using System.Runtime.InteropServices;

namespace BlockMount.Base.Interop;

/// <summary>What System.Net.Sockets cannot do with Unix sockets: create the file with a mode, and leave unlinking to the caller.</summary>
public static unsafe partial class UnixSockets
{
    private const string Library = "libc";

    private const int AF_UNIX = 1;
    private const int SOCK_STREAM = 1;
    private const int SOCK_CLOEXEC = 0x80000;
    private const int LOCK_EX = 2;
    private const int LOCK_NB = 4;

    /// <summary>
    /// Creates a listening socket whose file has <paramref name="mode"/> (less the umask) from the first moment: Linux takes the
    /// mode of the file from the unbound socket, so there is no time in which others could connect.
    /// </summary>
    /// <returns>The socket, owned by the caller; null on failure, with <paramref name="error"/> set.</returns>
    public static SafeSocketHandle? TryListen(UnixDomainSocketEndPoint endPoint, uint mode, int backlog, out Errno error)
    {
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0)
        {
            error = Libc.LastErrno;
            return null;
        }

        SocketAddress address = endPoint.Serialize();
        fixed (byte* bytes = address.Buffer.Span)
        {
            if (fchmod(fd, mode) == 0 && bind(fd, bytes, (uint)address.Size) == 0 && listen(fd, backlog) == 0)
            {
                error = Errno.None;
                return new SafeSocketHandle(fd, ownsHandle: true);
            }
        }

        error = Libc.LastErrno;
        // Nothing was sent or stored, so a failing close has nothing to tell.
        _ = Libc.close(fd);
        return null;
    }

    /// <summary>Takes an exclusive flock on an open file or directory; false while somebody else has it. Ends when the descriptor is closed.</summary>
    public static bool TryLock(int fd) => flock(fd, LOCK_EX | LOCK_NB) == 0;

    [LibraryImport(Library)]
    private static partial int socket(int domain, int type, int protocol);

    [LibraryImport(Library)]
    private static partial int fchmod(int fd, uint mode);

    [LibraryImport(Library)]
    private static partial int bind(int fd, byte* address, uint length);

    [LibraryImport(Library)]
    private static partial int listen(int fd, int backlog);

    [LibraryImport(Library)]
    private static partial int flock(int fd, int operation);
}
