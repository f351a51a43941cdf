using System.Runtime.InteropServices;

namespace BlockMount.Base.Interop;

/// <summary>
/// Calls of libc that mounting a FUSE file system needs. They return what libc returns: on -1 ask <see cref="Libc.LastErrno"/> at
/// once, before any other call on this thread.
/// </summary>
public static unsafe partial class LibcMount
{
    public const ulong MS_NOSUID = 2;
    public const ulong MS_NODEV = 4;

    public const int MNT_DETACH = 2;
    public const int UMOUNT_NOFOLLOW = 8;

    public const int AF_UNIX = 1;
    public const int SOCK_STREAM = 1;
    public const int SOL_SOCKET = 1;
    public const int SCM_RIGHTS = 1;
    public const int MSG_CMSG_CLOEXEC = 0x40000000;
    public const int F_SETFD = 2;
    public const int FD_CLOEXEC = 1;

    public const int AT_FDCWD = -100;
    public const int AT_SYMLINK_NOFOLLOW = 0x100;
    public const int AT_EMPTY_PATH = 0x1000;
    public const uint STATX_BASIC_STATS = 0x7ff;

    public const int O_PATH = 0x200000;
    public const int O_ACCMODE = 3;

    public const uint S_IFMT = 0xF000;
    public const uint S_IFREG = 0x8000;

    private const string Library = "libc";

    [LibraryImport(Library, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int mount(string source, string target, string type, ulong flags, string data);

    [LibraryImport(Library, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int umount2(string target, int flags);

    [LibraryImport(Library, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int statx(int directory, string path, int flags, uint mask, StatxStruct* result);

    /// <summary>The result is either <paramref name="resolved"/> (4096 bytes) or null.</summary>
    [LibraryImport(Library, StringMarshalling = StringMarshalling.Utf8)]
    public static partial byte* realpath(string path, byte* resolved);

    [LibraryImport(Library)]
    public static partial int socketpair(int domain, int type, int protocol, int* sockets);

    [LibraryImport(Library)]
    public static partial nint recvmsg(int socket, MsgHdr* message, int flags);

    [LibraryImport(Library, EntryPoint = "fcntl")]
    public static partial int fcntl_int(int fd, int command, int argument);

    [LibraryImport(Library)]
    public static partial uint geteuid();

    [LibraryImport(Library)]
    public static partial uint getegid();
}

/// <summary>struct msghdr of socket.h on 64-bit Linux.</summary>
[StructLayout(LayoutKind.Sequential)]
public unsafe struct MsgHdr
{
    public void* Name;
    public uint NameLength;
    public IoVec* Vectors;
    public nuint VectorCount;
    public void* Control;
    public nuint ControlLength;
    public int Flags;
}

/// <summary>struct cmsghdr of socket.h with room for one descriptor behind it, padded to 8 bytes.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct CmsgOneDescriptor
{
    public nuint Length;
    public int Level;
    public int Type;
    public int Descriptor;
    public int Padding;
}

/// <summary>struct statx of linux/stat.h up to the members that are used; 256 bytes.</summary>
[StructLayout(LayoutKind.Sequential, Size = 256)]
public struct StatxStruct
{
    public uint Mask;
    public uint BlockSize;
    public ulong Attributes;
    public uint LinkCount;
    public uint UserId;
    public uint GroupId;
    public ushort Mode;
    public ushort Spare;
    public ulong Inode;
    public ulong Size;
    public ulong Blocks;
}
