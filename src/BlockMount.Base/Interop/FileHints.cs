using System.Runtime.InteropServices;

namespace BlockMount.Base.Interop;

/// <summary>Advice to the file system about a new, empty file (ioctl_iflags(2), FS_IOC_FSSETXATTR of linux/fs.h). Off the hot path.</summary>
public static unsafe class FileHints
{
    private const nuint FS_IOC_GETFLAGS = 0x80086601;
    private const nuint FS_IOC_SETFLAGS = 0x40086602;
    private const nuint FS_IOC_FSGETXATTR = 0x801c581f;
    private const nuint FS_IOC_FSSETXATTR = 0x401c5820;
    private const int FS_NOCOW_FL = 0x00800000;
    private const uint FS_XFLAG_EXTSIZE = 0x00000800;

    /// <summary>The file is to be overwritten in place (btrfs).</summary>
    /// <returns>None, or why the file system does not take the advice.</returns>
    public static Errno SetNoCow(int fd)
    {
        // The kernel reads and writes an int, whatever the number of the request says.
        long flags = 0;
        if (Libc.ioctl(fd, FS_IOC_GETFLAGS, &flags) != 0)
        {
            return Libc.LastErrno;
        }

        flags |= FS_NOCOW_FL;
        return Libc.ioctl(fd, FS_IOC_SETFLAGS, &flags) == 0 ? Errno.None : Libc.LastErrno;
    }

    /// <summary>The file is to get its space in pieces of so many bytes (xfs).</summary>
    /// <returns>None, or why the file system does not take the advice.</returns>
    public static Errno SetExtentSize(int fd, uint bytes)
    {
        FsXattr attributes = default;
        if (Libc.ioctl(fd, FS_IOC_FSGETXATTR, &attributes) != 0)
        {
            return Libc.LastErrno;
        }

        attributes.Flags |= FS_XFLAG_EXTSIZE;
        attributes.ExtentSize = bytes;
        return Libc.ioctl(fd, FS_IOC_FSSETXATTR, &attributes) == 0 ? Errno.None : Libc.LastErrno;
    }

    /// <summary>struct fsxattr.</summary>
    [StructLayout(LayoutKind.Sequential, Size = 28)]
    private struct FsXattr
    {
        public uint Flags;
        public uint ExtentSize;
        public uint Extents;
        public uint Project;
        public uint CowExtentSize;
    }
}
