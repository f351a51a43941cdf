using BlockMount.Base;
using BlockMount.Base.Interop;
using BlockMount.Exports.Fuse.Abi;

namespace BlockMount.Exports.Fuse;

/// <summary>A channel over a descriptor of /dev/fuse, which it owns.</summary>
internal sealed unsafe class FuseDeviceChannel : FuseChannel
{
    private int _fd;

    /// <summary>Takes over <paramref name="fd"/>, which belongs to a mount.</summary>
    internal FuseDeviceChannel(int fd) => _fd = fd;

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
                return new FuseDeviceChannel(fd);
            }

            CloseDescriptor(fd);
        }

        const int F_DUPFD_CLOEXEC = 1030;
        int duplicate = LibcMount.fcntl_int(_fd, F_DUPFD_CLOEXEC, 0);
        return duplicate >= 0
            ? new FuseDeviceChannel(duplicate)
            : throw new BlockIOException(Libc.LastErrno, "duplication of the descriptor of /dev/fuse");
    }

    /// <inheritdoc/>
    internal override int Receive(FuseRequest request)
    {
        nint length = Libc.read(_fd, request.Frame, FuseRequest.FrameCapacity);
        if (length > 0)
        {
            return (int)length;
        }

        Errno errno = length == 0 ? Errno.ENODEV : Libc.LastErrno;
        return errno switch
        {
            // ENOENT: the request was interrupted while it was being handed over.
            Errno.EINTR or Errno.EAGAIN or Errno.ENOENT => Interrupted,
            Errno.ENODEV => Unmounted,
            _ => throw new BlockIOException(errno, "read from /dev/fuse"),
        };
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

    // close(2) of a descriptor of ours can only fail with EBADF, which is a bug.
    private static void CloseDescriptor(int fd)
    {
        if (Libc.close(fd) != 0 && Libc.LastErrno == Errno.EBADF)
        {
            throw new System.Diagnostics.UnreachableException("a descriptor of /dev/fuse was closed twice");
        }
    }
}
