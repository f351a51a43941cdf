using System.Runtime.InteropServices;

namespace BlockMount.Base.Interop;

/// <summary>What the kernel makes of a path. Opens nothing; off the hot path.</summary>
public static unsafe partial class LibcPath
{
    private const string Library = "libc";
    private const int PathBytesMax = 4096;

    /// <summary>
    /// The absolute path without symbolic links, "." and "..". Returns <see cref="Errno.None"/>, or why the path leads nowhere.
    /// </summary>
    public static Errno Resolve(string path, out string resolved)
    {
        byte* buffer = stackalloc byte[PathBytesMax];
        if (realpath(path, buffer) == null)
        {
            resolved = "";
            return Libc.LastErrno;
        }

        resolved = Marshal.PtrToStringUTF8((nint)buffer)!;
        return Errno.None;
    }

    [LibraryImport(Library, StringMarshalling = StringMarshalling.Utf8)]
    private static partial byte* realpath(string path, byte* resolved);
}
