using System.Net;
using System.Net.Sockets;
using BlockMount.Base;
using BlockMount.Base.Interop;
using Microsoft.Win32.SafeHandles;
using Mono.Unix.Native;
using Errno = BlockMount.Base.Errno;

namespace BlockMount.Exports;

/// <summary>
/// A listening socket. A Unix socket is made with mode 0600, replaces the file of a server that is dead, and is unlinked on
/// disposal if it is still ours.
/// </summary>
public sealed class SocketListener : IDisposable
{
    private const int Backlog = 128;
    private static readonly TimeSpan s_lockWait = TimeSpan.FromSeconds(5);

    private readonly string? _path;
    private readonly (ulong Device, ulong Inode) _identity;

    private SocketListener(Socket socket, EndPoint endPoint, string? path)
    {
        Socket = socket;
        EndPoint = endPoint;
        _path = path;
        _identity = path is not null && TryStat(path, out Stat stat) ? (stat.st_dev, stat.st_ino) : default;
    }

    /// <summary>The listening socket.</summary>
    public Socket Socket { get; }

    /// <summary>The address, with the port that was chosen.</summary>
    public EndPoint EndPoint { get; }

    /// <summary>Binds and listens.</summary>
    /// <exception cref="BlockMountException">The address is taken or cannot be used.</exception>
    public static async ValueTask<SocketListener> BindAsync(EndPoint endPoint) => endPoint switch
    {
        IPEndPoint ip => BindTcp(ip),
        UnixDomainSocketEndPoint unix => await BindUnixAsync(unix),
        _ => throw new BlockMountException($"Could not listen on '{endPoint}': neither an IP address nor a Unix socket"),
    };

    /// <summary>Stops listening.</summary>
    public void Dispose()
    {
        // Unlinked first: nobody can find a socket that nobody accepts from.
        if (_path is not null && TryStat(_path, out Stat stat) && (stat.st_dev, stat.st_ino) == _identity)
        {
            File.Delete(_path);
        }

        Socket.Dispose();
    }

    private static SocketListener BindTcp(IPEndPoint endPoint)
    {
        Socket socket = new(endPoint.AddressFamily, SocketType.Stream, ProtocolType.Tcp);
        try
        {
            // The runtime sets SO_REUSEADDR on Linux, so a port in TIME_WAIT is no obstacle and a living listener is one.
            socket.Bind(endPoint);
            socket.Listen(Backlog);
            return new SocketListener(socket, socket.LocalEndPoint!, path: null);
        }
        catch (SocketException error)
        {
            socket.Dispose();
            string? hint = error.SocketErrorCode switch
            {
                SocketError.AddressAlreadyInUse => $"Choose another port, or 0 for any; 'ss -ltnp sport = :{endPoint.Port}' shows who has it",
                SocketError.AccessDenied => "Ports below 1024 are privileged; choose another one",
                SocketError.AddressNotAvailable => "Use an address of this machine, as 127.0.0.1 or 0.0.0.0; 'ip addr' lists them",
                _ => null,
            };
            throw new BlockMountException($"Could not listen on {endPoint}: {error.Message}", hint, error);
        }
    }

    private static async ValueTask<SocketListener> BindUnixAsync(UnixDomainSocketEndPoint endPoint)
    {
        string path = endPoint.ToString();
        if (path.Length == 0 || path[0] == '@' || path[0] == '\0')
        {
            throw new BlockMountException(
                $"Could not listen on '{path}': abstract sockets have no permissions", "Give the path of a file in a directory of yours");
        }

        string directory = Path.GetDirectoryName(Path.GetFullPath(path))!;
        // Probing, unlinking and binding are one step with respect to other servers of ours in that directory.
        using SafeFileHandle held = await LockDirectoryAsync(directory, path);
        RemoveStaleSocket(path);
        SafeSocketHandle? handle = UnixSockets.TryListen(endPoint, 0x180 /* 0600 */, Backlog, out Errno error);
        return handle is not null
            ? new SocketListener(new Socket(handle), endPoint, path)
            : throw new BlockMountException($"Could not listen on '{path}': {ErrnoText.Describe(error)}");
    }

    private static async ValueTask<SafeFileHandle> LockDirectoryAsync(string directory, string path)
    {
        int fd = Libc.open(directory, LinuxConstants.O_RDONLY | LinuxConstants.O_DIRECTORY | LinuxConstants.O_CLOEXEC, 0);
        if (fd < 0)
        {
            throw new BlockMountException(
                $"Could not listen on '{path}': directory '{directory}': {ErrnoText.Describe(Libc.LastErrno)}", "Create the directory first");
        }

        SafeFileHandle held = new(fd, ownsHandle: true);
        for (long end = Environment.TickCount64 + (long)s_lockWait.TotalMilliseconds; !UnixSockets.TryLock(fd); await Task.Delay(10))
        {
            if (Environment.TickCount64 > end)
            {
                held.Dispose();
                throw new BlockMountException(
                    $"Could not listen on '{path}': another process holds a lock on '{directory}'", "Use another directory for the socket");
            }
        }

        return held;
    }

    // A socket file whose server is gone refuses connections; nothing else does so for long.
    private static void RemoveStaleSocket(string path)
    {
        if (!TryStat(path, out Stat stat))
        {
            return;
        }

        if ((stat.st_mode & FilePermissions.S_IFMT) != FilePermissions.S_IFSOCK)
        {
            throw new BlockMountException(
                $"Could not listen on '{path}': the file exists and is not a socket", "Give another path, or move the file away");
        }

        using Socket probe = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        try
        {
            probe.Connect(new UnixDomainSocketEndPoint(path));
        }
        catch (SocketException error) when (error.SocketErrorCode == SocketError.ConnectionRefused)
        {
            File.Delete(path);
            return;
        }
        catch (SocketException error)
        {
            throw new BlockMountException($"Could not listen on '{path}': the socket there does not answer as expected: {error.Message}", null, error);
        }

        throw new BlockMountException(
            $"Could not listen on '{path}': a server is using this socket", $"Give another path, or stop the other server ('ss -lxp src {path}' shows it)");
    }

    private static bool TryStat(string path, out Stat stat) => Syscall.lstat(path, out stat) == 0;
}
