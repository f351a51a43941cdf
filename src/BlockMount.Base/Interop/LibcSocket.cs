using System.Runtime.InteropServices;

namespace BlockMount.Base.Interop;

/// <summary>
/// Calls of libc on connected stream sockets. They block until the socket is ready and return what libc returns; on -1 ask
/// <see cref="Libc.LastErrno"/> at once.
/// </summary>
public static unsafe partial class LibcSocket
{
    public const int MSG_DONTWAIT = 0x40;
    public const int MSG_NOSIGNAL = 0x4000;

    private const string Library = "libc";

    [LibraryImport(Library)]
    public static partial nint recv(int socket, byte* buffer, nuint length, int flags);

    [LibraryImport(Library)]
    public static partial nint send(int socket, byte* buffer, nuint length, int flags);
}
