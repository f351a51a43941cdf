using System.Runtime.InteropServices;

namespace BlockMount.Base.Interop;

/// <summary>
/// File system calls of libc that run hot or that Mono.Posix lacks. They return what libc returns: on -1 call
/// <see cref="LastErrno"/> at once, before any other call on this thread (marshalling it on every call costs on hot paths).
/// </summary>
public static unsafe partial class Libc
{
    private const string Library = "libc";

    /// <summary>The calling thread's errno, as the last failed call left it.</summary>
    public static Errno LastErrno => (Errno)Marshal.GetLastSystemError();

    [LibraryImport(Library, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int open(string path, int flags, uint mode);

    [LibraryImport(Library)]
    public static partial int close(int fd);

    [LibraryImport(Library)]
    public static partial nint read(int fd, byte* buffer, nuint count);

    [LibraryImport(Library)]
    public static partial nint write(int fd, byte* buffer, nuint count);

    [LibraryImport(Library)]
    public static partial nint writev(int fd, IoVec* vectors, int count);

    [LibraryImport(Library)]
    public static partial nint pread(int fd, byte* buffer, nuint count, long offset);

    [LibraryImport(Library)]
    public static partial nint pwrite(int fd, byte* buffer, nuint count, long offset);

    [LibraryImport(Library)]
    public static partial nint preadv2(int fd, IoVec* vectors, int count, long offset, int flags);

    [LibraryImport(Library)]
    public static partial nint pwritev2(int fd, IoVec* vectors, int count, long offset, int flags);

    [LibraryImport(Library, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int renameat2(int oldDirectory, string oldPath, int newDirectory, string newPath, uint flags);

    [LibraryImport(Library)]
    public static partial int fdatasync(int fd);

    [LibraryImport(Library)]
    public static partial int fsync(int fd);

    [LibraryImport(Library)]
    public static partial int ftruncate(int fd, long length);

    [LibraryImport(Library)]
    public static partial int fallocate(int fd, int mode, long offset, long length);

    [LibraryImport(Library)]
    public static partial long lseek(int fd, long offset, int whence);

    [LibraryImport(Library)]
    public static partial int fcntl(int fd, int command, FlockStruct* flock);

    [LibraryImport(Library)]
    public static partial int ioctl(int fd, nuint request, void* argument);

    [LibraryImport(Library)]
    public static partial int dup(int fd);
}

/// <summary>struct iovec of uio.h.</summary>
[StructLayout(LayoutKind.Sequential)]
public unsafe struct IoVec
{
    public byte* Base;
    public nuint Length;
}

/// <summary>struct flock of fcntl.h on x86-64 and arm64: 32 bytes with padding.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct FlockStruct
{
    public short Type;
    public short Whence;
    public long Start;
    public long Length;
    public int Pid;
}
