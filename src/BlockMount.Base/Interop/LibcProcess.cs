using System.Runtime.InteropServices;

namespace BlockMount.Base.Interop;

/// <summary>
/// Calls of libc about processes, descriptors that are handed on, and mounts. None runs hot. They return what libc
/// returns; on -1 ask <see cref="Libc.LastErrno"/> at once. The posix_spawn family returns the error number itself.
/// </summary>
public static unsafe partial class LibcProcess
{
    /// <summary>Bytes that hold posix_spawn_file_actions_t or posix_spawnattr_t of glibc (80 and 336), with room to spare.</summary>
    public const int SpawnStructureBytes = 512;

    public const short POSIX_SPAWN_SETSIGDEF = 0x04;
    public const short POSIX_SPAWN_SETSID = 0x80;

    /// <summary>sizeof(sigset_t).</summary>
    public const int SignalSetBytes = 128;

    public const int LOCK_SH = 1;
    public const int LOCK_EX = 2;
    public const int LOCK_NB = 4;
    public const int LOCK_UN = 8;

    public const int MNT_DETACH = 2;
    public const int UMOUNT_NOFOLLOW = 8;

    private const string Library = "libc";

    [LibraryImport(Library)]
    public static partial int pipe2(int* descriptors, int flags);

    [LibraryImport(Library)]
    public static partial int dup2(int from, int to);

    [LibraryImport(Library, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int chdir(string path);

    [LibraryImport(Library)]
    public static partial int flock(int fd, int operation);

    [LibraryImport(Library, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int umount2(string path, int flags);

    [LibraryImport(Library)]
    public static partial uint geteuid();

    [LibraryImport(Library)]
    public static partial int kill(int pid, int signal);

    [LibraryImport(Library)]
    public static partial int waitpid(int pid, int* status, int options);

    [LibraryImport(Library)]
    public static partial void _exit(int status);

    /// <summary>Returns the canonical path in memory that the caller gives to <see cref="free"/>, or null.</summary>
    [LibraryImport(Library, StringMarshalling = StringMarshalling.Utf8)]
    public static partial byte* realpath(string path, byte* resolved);

    [LibraryImport(Library)]
    public static partial void free(void* memory);

    [LibraryImport(Library, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int posix_spawn(int* pid, string path, void* actions, void* attributes, byte** arguments, byte** environment);

    [LibraryImport(Library)]
    public static partial int posix_spawn_file_actions_init(void* actions);

    [LibraryImport(Library)]
    public static partial int posix_spawn_file_actions_adddup2(void* actions, int from, int to);

    [LibraryImport(Library)]
    public static partial int posix_spawn_file_actions_addclosefrom_np(void* actions, int from);

    [LibraryImport(Library)]
    public static partial int posix_spawn_file_actions_destroy(void* actions);

    [LibraryImport(Library)]
    public static partial int posix_spawnattr_init(void* attributes);

    [LibraryImport(Library)]
    public static partial int posix_spawnattr_setflags(void* attributes, short flags);

    /// <param name="signals">A sigset_t: <see cref="SignalSetBytes"/> bytes, signal n being bit n - 1.</param>
    [LibraryImport(Library)]
    public static partial int posix_spawnattr_setsigdefault(byte* attributes, ulong* signals);

    [LibraryImport(Library)]
    public static partial int posix_spawnattr_destroy(void* attributes);
}
