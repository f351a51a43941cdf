using System.Diagnostics;
using BlockMount.Base;
using BlockMount.Base.Async;
using BlockMount.Base.Interop;
using BlockMount.Exports.Fuse.Abi;

namespace BlockMount.Exports.Fuse;

/// <summary>A channel over a descriptor of /dev/fuse, which it owns.</summary>
internal sealed unsafe class FuseDeviceChannel : FuseChannel
{
    private const int NotYet = -2;

    private int _fd;

    // The receiving thread's. Null where the descriptor's flags are shared with another channel, so that they must not change.
    private readonly AdaptivePolling? _polling;
    private bool _isNonBlocking;

    // Shared by the channels of a mount: only one worker polls, the others sleep.
    private readonly FusePoller _poller;

    private FuseDeviceChannel(int fd, FusePoller poller, bool ownsFlags)
    {
        _fd = fd;
        _poller = poller;
        _polling = ownsFlags ? new AdaptivePolling() : null;
    }

    /// <summary>Takes over <paramref name="fd"/>, which belongs to a mount.</summary>
    internal FuseDeviceChannel(int fd)
        : this(fd, new FusePoller(), ownsFlags: true)
    {
    }

    /// <summary>The descriptor, for mount options; still owned by the channel.</summary>
    internal int Descriptor => _fd;

    /// <summary>Opens /dev/fuse, not yet tied to any mount.</summary>
    /// <exception cref="BlockMountException">/dev/fuse is missing or not permitted.</exception>
    internal static FuseDeviceChannel Open()
    {
        int fd = Libc.open("/dev/fuse", LinuxConstants.O_RDWR | LinuxConstants.O_CLOEXEC, 0);
        if (fd >= 0)
        {
            return new FuseDeviceChannel(fd);
        }

        Errno errno = Libc.LastErrno;
        string hint = errno == Errno.EACCES || errno == Errno.EPERM
            ? "run as root, or give the user read and write permission on /dev/fuse"
            : "load the kernel module with 'modprobe fuse'; in a container pass --device /dev/fuse";
        throw new BlockMountException($"Could not open '/dev/fuse': {ErrnoText.Describe(errno)}", hint);
    }

    /// <summary>
    /// A second queue to the same mount, so that workers do not share one. Where the kernel or the permissions do not allow it, a
    /// duplicate of this descriptor, which works as well but contends.
    /// </summary>
    internal FuseDeviceChannel Clone()
    {
        int fd = Libc.open("/dev/fuse", LinuxConstants.O_RDWR | LinuxConstants.O_CLOEXEC, 0);
        if (fd >= 0)
        {
            uint source = (uint)_fd;
            if (Libc.ioctl(fd, FuseFlags.FUSE_DEV_IOC_CLONE, &source) == 0)
            {
                return new FuseDeviceChannel(fd, _poller, ownsFlags: true);
            }

            CloseDescriptor(fd);
        }

        return new FuseDeviceChannel(Duplicate(), _poller, ownsFlags: false);
    }

    /// <summary>Another descriptor of the same channel, which the caller owns: it stays valid when the channel is closed.</summary>
    /// <exception cref="BlockIOException">No descriptors left.</exception>
    internal int Duplicate()
    {
        const int F_DUPFD_CLOEXEC = 1030;
        int duplicate = LibcMount.fcntl_int(_fd, F_DUPFD_CLOEXEC, 0);
        return duplicate >= 0 ? duplicate : throw new BlockIOException(Libc.LastErrno, "duplication of the descriptor of /dev/fuse");
    }

    /// <summary>Lets the kernel read a file for this mount on its own (FUSE passthrough, Linux 6.9). The registration lasts as long as the mount.</summary>
    /// <param name="descriptor">A regular file, which may be closed afterwards.</param>
    /// <returns>The id for replies to FUSE_OPEN; 0 if that is not possible: not privileged (CAP_SYS_ADMIN), or the file lies on a stacked file system.</returns>
    internal int OpenBacking(int descriptor)
    {
        // struct fuse_backing_map: fd, flags, padding.
        int* map = stackalloc int[4] { descriptor, 0, 0, 0 };
        return Math.Max(Libc.ioctl(_fd, FuseFlags.FUSE_DEV_IOC_BACKING_OPEN, map), 0);
    }

    /// <inheritdoc/>
    internal override int Receive(FuseRequest request)
    {
        int polled = Poll(request);
        if (polled != NotYet)
        {
            return polled;
        }

        SetNonBlocking(false);
        int length = Read(request);
        return length == NotYet ? Interrupted : length;
    }

    /// <inheritdoc/>
    internal override void Send(FuseRequest request, int length)
    {
        while (Libc.write(_fd, request.ReplyFrame, (nuint)length) < 0)
        {
            Errno errno = Libc.LastErrno;
            switch (errno)
            {
                case Errno.EINTR:
                case Errno.EAGAIN:
                    continue;
                case Errno.ENOENT:
                case Errno.ENODEV:
                    // Interrupted, or unmounted meanwhile: nobody waits for this reply.
                    return;
                default:
                    throw new BlockIOException(errno, $"reply of {length} bytes to /dev/fuse");
            }
        }
    }

    /// <inheritdoc/>
    public override void Dispose()
    {
        int fd = Interlocked.Exchange(ref _fd, -1);
        if (fd >= 0)
        {
            CloseDescriptor(fd);
        }
    }

    // Looks for a request without sleeping, as long as that pays; NotYet if none came.
    private int Poll(FuseRequest request)
    {
        if (_polling is null || !_polling.ShouldPoll() || !_poller.TryBegin())
        {
            return NotYet;
        }

        SetNonBlocking(true);
        long deadline = AdaptivePolling.Deadline();
        int length;
        do
        {
            length = Read(request);
        }
        while (length == NotYet && Stopwatch.GetTimestamp() < deadline);

        _poller.End();
        if (length == NotYet)
        {
            _polling.Failed();
        }
        else
        {
            _polling.Succeeded();
        }

        return length;
    }

    private int Read(FuseRequest request)
    {
        nint length = Libc.read(_fd, request.Frame, FuseRequest.FrameCapacity);
        if (length > 0)
        {
            return (int)length;
        }

        Errno errno = length == 0 ? Errno.ENODEV : Libc.LastErrno;
        return errno switch
        {
            Errno.EAGAIN => NotYet,
            // ENOENT: the request was interrupted while it was being handed over.
            Errno.EINTR or Errno.ENOENT => Interrupted,
            Errno.ENODEV => Unmounted,
            _ => throw new BlockIOException(errno, "read from /dev/fuse"),
        };
    }

    private void SetNonBlocking(bool value)
    {
        if (_isNonBlocking != value)
        {
            _isNonBlocking = FileStatus.SetFlags(_fd, value ? LinuxConstants.O_NONBLOCK : 0) == Errno.None ? value : _isNonBlocking;
        }
    }

    // close(2) of a descriptor of ours can only fail with EBADF, which is a bug.
    private static void CloseDescriptor(int fd)
    {
        if (Libc.close(fd) != 0 && Libc.LastErrno == Errno.EBADF)
        {
            throw new System.Diagnostics.UnreachableException("a descriptor of /dev/fuse was closed twice");
        }
    }
}
