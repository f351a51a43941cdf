using System.Runtime.InteropServices;

namespace BlockMount.Base.Interop.Uring;

/// <summary>
/// The system calls of io_uring, for which libc has no functions, and what goes with them. They return what syscall(2) returns: on -1 ask
/// <see cref="Libc.LastErrno"/> at once.
/// </summary>
internal static unsafe partial class LibcUring
{
    // The same on all architectures.
    internal const long SYS_io_uring_setup = 425;
    internal const long SYS_io_uring_enter = 426;

    internal const int PROT_READ = 1;
    internal const int PROT_WRITE = 2;
    internal const int MAP_SHARED = 1;
    internal const int MAP_POPULATE = 0x8000;

    private const string Library = "libc";

    [LibraryImport(Library, EntryPoint = "syscall")]
    internal static partial long io_uring_setup(long number, uint entries, io_uring_params* parameters);

    [LibraryImport(Library, EntryPoint = "syscall")]
    internal static partial long io_uring_enter(long number, int fd, uint toSubmit, uint minComplete, uint flags, void* argument, nuint size);

    [LibraryImport(Library)]
    internal static partial void* mmap(void* address, nuint length, int protection, int flags, int fd, long offset);

    [LibraryImport(Library)]
    internal static partial int munmap(void* address, nuint length);
}
