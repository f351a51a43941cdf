using BlockMount.Base;
using BlockMount.Base.Interop;
using Mono.Unix.Native;
using Errno = BlockMount.Base.Errno;

namespace BlockMount.Formats;

/// <summary>Which file a path led to, however it was spelled.</summary>
public readonly record struct FileIdentity(ulong Device, ulong Inode);

/// <summary>
/// Decides about every file that an image names (USERS B7): plain local names only, no protocols, no special files, a bounded
/// depth. The one place where a reference becomes a path; it opens nothing itself. Immutable, any thread.
/// </summary>
public sealed class OpenPolicy
{
    private static readonly string[] s_forbiddenRoots = ["/proc", "/sys", "/dev"];

    // A tmpfs with ordinary files that lies below /dev only by custom.
    private const string SharedMemoryRoot = "/dev/shm";

    /// <summary>Images in one chain, the active layer included.</summary>
    public int DepthMax { get; init; } = 256;

    /// <summary>False refuses every reference: an image of unknown origin must stand for itself.</summary>
    public bool AllowReferences { get; init; } = true;

    /// <summary>
    /// If not empty, referenced files must lie in one of these directories or below, after symbolic links are resolved.
    /// </summary>
    public IReadOnlyList<string> AllowedDirectories { get; init; } = [];

    /// <summary>
    /// The path that <paramref name="reference"/> of the image at <paramref name="referringPath"/> stands for: relative names
    /// count from the directory of that path as it was given. Looks at the name only.
    /// </summary>
    /// <param name="what">For messages: what the image refers to.</param>
    /// <exception cref="ImageFormatException">The name is no plain local file name, or references are not allowed.</exception>
    public string ResolveReference(string referringPath, BackingReference reference, string what = "backing file")
    {
        if (!AllowReferences)
        {
            throw Refuse(referringPath, reference, what, "references to other files are not allowed here", null);
        }

        string name = reference.FileName;
        if (name.Any(char.IsControl))
        {
            throw Refuse(referringPath, reference, what, "the name contains control characters", null);
        }

        if (name.StartsWith("file:", StringComparison.Ordinal))
        {
            name = name["file:".Length..];
        }
        else if (ProtocolOf(name) is { } protocol)
        {
            throw Refuse(
                referringPath,
                reference,
                what,
                $"it is not a plain file name but begins with the protocol '{protocol}:'",
                "Only local files are opened on behalf of an image; a file with a colon in its name is written './NAME'");
        }

        if (name.Length == 0)
        {
            throw Refuse(referringPath, reference, what, "the name is empty", null);
        }

        return name[0] == '/' ? name : referringPath[..(referringPath.LastIndexOf('/') + 1)] + name;
    }

    /// <summary>
    /// Checks what a resolved reference leads to: a regular file outside /proc, /sys and /dev, and inside
    /// <see cref="AllowedDirectories"/>. The check comes before the open, because opening a FIFO or a device has effects.
    /// </summary>
    /// <exception cref="ImageFormatException">The target is refused.</exception>
    /// <exception cref="BlockIOException">The target cannot be looked at; ENOENT if there is none.</exception>
    public FileIdentity CheckReferenced(string path)
    {
        Errno errno = LibcPath.Resolve(path, out string real);
        if (errno != Errno.None)
        {
            throw new BlockIOException(errno, $"Could not open '{path}'");
        }

        if (s_forbiddenRoots.Any(root => IsInside(real, root)) && !IsInside(real, SharedMemoryRoot))
        {
            throw new ImageFormatException(
                $"Could not open '{path}': an image may not refer to '{real}' (files below /proc, /sys and /dev are refused)");
        }

        if (AllowedDirectories.Count > 0 && !AllowedDirectories.Any(directory => IsAllowedBy(directory, real)))
        {
            throw new ImageFormatException(
                $"Could not open '{path}': '{real}' lies outside the allowed directories ({string.Join(", ", AllowedDirectories)})");
        }

        Stat status = StatusOf(path);
        if ((status.st_mode & FilePermissions.S_IFMT) != FilePermissions.S_IFREG)
        {
            throw new ImageFormatException(
                $"Could not open '{path}': an image may refer to regular files only, this is {Describe(status.st_mode)}");
        }

        return new FileIdentity(status.st_dev, status.st_ino);
    }

    /// <summary>The identity of a file that the user named, whatever it is; null if it cannot be looked at (opening it will tell why).</summary>
    public static FileIdentity? Identify(string path) =>
        Syscall.stat(path, out Stat status) == 0 ? new FileIdentity(status.st_dev, status.st_ino) : null;

    // As QEMU: what stands before a colon is a protocol, unless a slash comes first.
    private static string? ProtocolOf(string name)
    {
        int end = name.AsSpan().IndexOfAny(':', '/');
        return end >= 0 && name[end] == ':' ? name[..end] : null;
    }

    private static bool IsAllowedBy(string directory, string real) =>
        LibcPath.Resolve(directory, out string realDirectory) == Errno.None && IsInside(real, realDirectory);

    private static bool IsInside(string real, string directory) =>
        directory == "/" || real == directory || real.StartsWith(directory + "/", StringComparison.Ordinal);

    private static Stat StatusOf(string path) => Syscall.stat(path, out Stat status) == 0
        ? status
        : throw new BlockIOException((Errno)(int)Stdlib.GetLastError(), $"Could not open '{path}'");

    private static string Describe(FilePermissions mode) => (mode & FilePermissions.S_IFMT) switch
    {
        FilePermissions.S_IFDIR => "a directory",
        FilePermissions.S_IFBLK => "a block device",
        FilePermissions.S_IFCHR => "a character device",
        FilePermissions.S_IFIFO => "a FIFO",
        FilePermissions.S_IFSOCK => "a socket",
        _ => "something else",
    };

    private static ImageFormatException Refuse(string referringPath, BackingReference reference, string what, string why, string? hint) => new(
        $"The {what} '{Printable(reference.FileName)}' of '{referringPath}' is refused: {why}", hint);

    // Foreign text on its way to a terminal.
    private static string Printable(string name) =>
        string.Create(name.Length, name, (target, source) =>
        {
            for (int i = 0; i < source.Length; i++)
            {
                target[i] = char.IsControl(source[i]) ? '?' : source[i];
            }
        });
}
