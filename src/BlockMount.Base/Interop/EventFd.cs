using System.Runtime.InteropServices;

namespace BlockMount.Base.Interop;

/// <summary>A counter in the kernel that wakes whoever reads it (eventfd(2)). Owns its descriptor. <see cref="Signal"/> from any thread.</summary>
public sealed unsafe partial class EventFd : IDisposable
{
    private const int EFD_CLOEXEC = 0x80000;
    private const string Library = "libc";

    // Held while the descriptor is used, so that a late signal never goes to a descriptor that was closed and given to somebody else.
    private readonly Lock _gate = new();

    private int _fd;

    /// <exception cref="BlockIOException">No descriptors left.</exception>
    public EventFd()
    {
        _fd = eventfd(0, EFD_CLOEXEC);
        if (_fd < 0)
        {
            throw new BlockIOException(Libc.LastErrno, "eventfd");
        }
    }

    /// <summary>To read 8 bytes from; still owned by this object.</summary>
    public int Descriptor => _fd;

    /// <summary>Wakes the reader, now or at its next read; does nothing after disposal.</summary>
    public void Signal()
    {
        lock (_gate)
        {
            ulong one = 1;
            while (_fd >= 0 && Libc.write(_fd, (byte*)&one, sizeof(ulong)) < 0 && Libc.LastErrno == Errno.EINTR)
            {
            }
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        lock (_gate)
        {
            if (_fd >= 0)
            {
                _ = Libc.close(_fd);
                _fd = -1;
            }
        }
    }

    [LibraryImport(Library)]
    private static partial int eventfd(uint initial, int flags);
}
