using System.Runtime.InteropServices;
using BlockMount.Base;
using BlockMount.Base.Interop;

namespace BlockMount.Daemon.Hosting;

/// <summary>Paths as the kernel spells them in its tables.</summary>
internal static unsafe class HostPath
{
    /// <summary>
    /// The path without symbolic links. The last part need not exist, and is not touched when it is a mount point whose
    /// daemon died.
    /// </summary>
    /// <exception cref="BlockMountException">The folder that holds it is missing or closed to this user.</exception>
    public static string Canonical(string path)
    {
        if (TryRealPath(path) is { } whole)
        {
            return whole;
        }

        string full = Path.GetFullPath(path);
        string folder = Path.GetDirectoryName(full) ?? "/";
        string parent = TryRealPath(folder) ?? throw new BlockMountException(
            $"could not use '{path}': the folder '{folder}': {ErrnoText.Describe(Libc.LastErrno)}",
            "Make the folder first, or check the spelling.");
        return Path.Combine(parent, Path.GetFileName(full));
    }

    private static string? TryRealPath(string path)
    {
        byte* resolved = LibcProcess.realpath(path, null);
        if (resolved == null)
        {
            return null;
        }

        string result = Marshal.PtrToStringUTF8((nint)resolved)!;
        LibcProcess.free(resolved);
        return result;
    }
}
