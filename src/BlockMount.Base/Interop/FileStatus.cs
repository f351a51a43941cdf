using System.Runtime.InteropServices;

namespace BlockMount.Base.Interop;

/// <summary>What statx(2), fcntl(2) and the block device ioctls tell about an open file. Off the hot path.</summary>
public static unsafe partial class FileStatus
{
    private const string Library = "libc";
    private const int AT_FDCWD = -100;
    private const int AT_EMPTY_PATH = 0x1000;
    private const uint STATX_BASIC_STATS = 0x7ff;
    private const int F_SETFL = 4;

    /// <summary>Bit of <see cref="StatxBuffer.Mask"/>: the alignment fields of direct I/O are valid (Linux 6.1).</summary>
    public const uint STATX_DIOALIGN = 0x2000;

    public const int S_IFMT = 0xF000;
    public const int S_IFIFO = 0x1000;
    public const int S_IFCHR = 0x2000;
    public const int S_IFDIR = 0x4000;
    public const int S_IFBLK = 0x6000;
    public const int S_IFREG = 0x8000;
    public const int S_IFSOCK = 0xC000;

    private const long TMPFS_MAGIC = 0x01021994;
    private const long RAMFS_MAGIC = 0x858458f6;

    private const uint BLKSSZGET = 0x1268;
    private const uint BLKGETSIZE64 = 0x80081272;

    /// <summary>Status of an open file. Returns <see cref="Errno.None"/> or why not.</summary>
    public static Errno Get(int fd, out StatxBuffer status) => Get(fd, "", AT_EMPTY_PATH, out status);

    /// <summary>Status of the file at <paramref name="path"/>, symbolic links followed. Opens nothing.</summary>
    public static Errno Get(string path, out StatxBuffer status) => Get(AT_FDCWD, path, 0, out status);

    /// <summary>Takes O_NONBLOCK and every other changeable flag except <paramref name="flags"/> off an open file.</summary>
    public static Errno SetFlags(int fd, int flags) => fcntl(fd, F_SETFL, flags) == 0 ? Errno.None : Libc.LastErrno;

    /// <summary>Size of a block device in bytes.</summary>
    public static Errno GetDeviceSize(int fd, out long bytes)
    {
        long size = 0;
        int result = Libc.ioctl(fd, BLKGETSIZE64, &size);
        bytes = size;
        return result == 0 ? Errno.None : Libc.LastErrno;
    }

    /// <summary>Logical sector size of a block device in bytes.</summary>
    public static Errno GetSectorSize(int fd, out int bytes)
    {
        int size = 0;
        int result = Libc.ioctl(fd, BLKSSZGET, &size);
        bytes = size;
        return result == 0 ? Errno.None : Libc.LastErrno;
    }

    /// <summary>True if the open file lives in memory (tmpfs, ramfs): reading it waits for no disk.</summary>
    public static bool IsInMemory(int fd)
    {
        // struct statfs begins with f_type, a long; 120 bytes on 64-bit systems.
        const int StatfsSize = 120;
        long* buffer = stackalloc long[StatfsSize / sizeof(long)];
        return fstatfs(fd, buffer) == 0 && buffer[0] is (TMPFS_MAGIC or RAMFS_MAGIC);
    }

    private static Errno Get(int directory, string path, int flags, out StatxBuffer status)
    {
        StatxBuffer buffer;
        int result = statx(directory, path, flags, STATX_BASIC_STATS | STATX_DIOALIGN, &buffer);
        status = buffer;
        return result == 0 ? Errno.None : Libc.LastErrno;
    }

    [LibraryImport(Library, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int statx(int directory, string path, int flags, uint mask, StatxBuffer* buffer);

    [LibraryImport(Library)]
    private static partial int fcntl(int fd, int command, int argument);

    [LibraryImport(Library)]
    private static partial int fstatfs(int fd, long* buffer);
}

/// <summary>The fields we use of struct statx (linux/stat.h), 256 bytes.</summary>
[StructLayout(LayoutKind.Explicit, Size = 256)]
public struct StatxBuffer
{
    [FieldOffset(0)]
    public uint Mask;
    [FieldOffset(20)]
    public uint Uid;
    [FieldOffset(24)]
    public uint Gid;
    [FieldOffset(28)]
    public ushort Mode;
    [FieldOffset(32)]
    public ulong Inode;
    [FieldOffset(40)]
    public long Size;
    [FieldOffset(48)]
    public long Blocks;
    [FieldOffset(136)]
    public uint DeviceMajor;
    [FieldOffset(140)]
    public uint DeviceMinor;
    [FieldOffset(152)]
    public uint DirectMemoryAlignment;
    [FieldOffset(156)]
    public uint DirectOffsetAlignment;

    /// <summary>The file type bits, as <see cref="FileStatus.S_IFREG"/>.</summary>
    public readonly int FileType => Mode & FileStatus.S_IFMT;
}
