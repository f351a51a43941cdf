using BlockMount.Base;
using BlockMount.Base.Interop;
using Mono.Unix.Native;
using BaseErrno = BlockMount.Base.Errno;

namespace BlockMount.Storage;

/// <summary>Words for a path that could not be opened: what failed, why, and what to do next. Looks around in the file system.</summary>
internal static class OpenFailure
{
    private const int SuggestionsMax = 3;

    /// <summary>The error for "Could not open 'x': reason" or "Could not create ...".</summary>
    public static BlockMountException Describe(string verb, string path, BaseErrno errno, bool readOnly) =>
        new($"Could not {verb} '{path}': {ErrnoText.Describe(errno)}", Advise(path, errno, readOnly));

    /// <summary>The error for a file system without O_DIRECT.</summary>
    public static BlockMountException DirectUnsupported(string path) => new(
        $"Could not open '{path}': the file system does not support O_DIRECT", "Leave cache.direct off for this image.");

    /// <summary>Refuses what is neither a regular file nor a block device.</summary>
    public static void RefuseType(string path, int type)
    {
        string? what = type switch
        {
            FileStatus.S_IFREG or FileStatus.S_IFBLK => null,
            FileStatus.S_IFDIR => "a directory",
            FileStatus.S_IFCHR => "a character device",
            FileStatus.S_IFIFO => "a FIFO",
            FileStatus.S_IFSOCK => "a socket",
            _ => "not a file",
        };
        if (what is not null)
        {
            throw new BlockMountException($"Could not open '{path}': it is {what}", "An image is a regular file or a block device.");
        }
    }

    private static string? Advise(string path, BaseErrno errno, bool readOnly) => (Mono.Unix.Native.Errno)(int)errno switch
    {
        Mono.Unix.Native.Errno.ENOENT => AdviseMissing(path),
        Mono.Unix.Native.Errno.EACCES => AdviseDenied(path, readOnly),
        Mono.Unix.Native.Errno.EEXIST => "Choose another name, or remove the file first.",
        Mono.Unix.Native.Errno.EROFS when !readOnly => "Its file system is mounted read-only; open the image read-only.",
        Mono.Unix.Native.Errno.EPERM when !readOnly => "The file may be immutable or append-only; 'lsattr' shows that.",
        Mono.Unix.Native.Errno.EISDIR => "An image is a regular file or a block device.",
        Mono.Unix.Native.Errno.ETXTBSY => "The file is in use as a program or a swap file.",
        Mono.Unix.Native.Errno.EBUSY => "The device is in use, for example mounted or part of another device; 'lsblk' shows that.",
        Mono.Unix.Native.Errno.ENOTDIR => "A part of the path before the last is a file, not a directory.",
        Mono.Unix.Native.Errno.ELOOP => "The symbolic links of this path form a loop; 'namei' shows them.",
        Mono.Unix.Native.Errno.EMFILE => "This process has too many open files; raise 'ulimit -n'.",
        Mono.Unix.Native.Errno.ENXIO => "The device is not there (any more).",
        Mono.Unix.Native.Errno.ENOSPC or Mono.Unix.Native.Errno.EDQUOT => "Free some space, or use another file system.",
        _ => null,
    };

    private static string AdviseMissing(string path)
    {
        string full = Path.GetFullPath(path);
        string? directory = Path.GetDirectoryName(full);
        while (directory is not null && !Directory.Exists(directory))
        {
            string? parent = Path.GetDirectoryName(directory);
            if (parent is null || Directory.Exists(parent))
            {
                return $"The directory '{directory}' does not exist.";
            }

            directory = parent;
        }

        List<string> similar = FindSimilar(directory ?? "/", Path.GetFileName(full));
        return similar.Count == 0
            ? "Check the path; nothing in that directory has a similar name."
            : $"Did you mean {string.Join(" or ", similar.Select(name => $"'{name}'"))}?";
    }

    private static List<string> FindSimilar(string directory, string wanted)
    {
        List<(int Distance, string Name)> found = [];
        try
        {
            foreach (string entry in Directory.EnumerateFiles(directory).Take(10_000))
            {
                string name = Path.GetFileName(entry);
                int distance = EditDistance(name, wanted);
                bool sameStem = Path.GetFileNameWithoutExtension(name).Equals(Path.GetFileNameWithoutExtension(wanted), StringComparison.OrdinalIgnoreCase);
                if (distance <= 2 || sameStem)
                {
                    found.Add((distance, name));
                }
            }
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            // The advice is an extra; the error itself is reported by the caller.
            return [];
        }

        return [.. found.Order().Take(SuggestionsMax).Select(pair => pair.Name)];
    }

    private static int EditDistance(string left, string right)
    {
        int[] row = [.. Enumerable.Range(0, right.Length + 1)];
        for (int i = 1; i <= left.Length; i++)
        {
            int diagonal = row[0];
            row[0] = i;
            for (int j = 1; j <= right.Length; j++)
            {
                int substituted = diagonal + (left[i - 1] == right[j - 1] ? 0 : 1);
                diagonal = row[j];
                row[j] = Math.Min(substituted, Math.Min(row[j], row[j - 1]) + 1);
            }
        }

        return row[^1];
    }

    private static string AdviseDenied(string path, bool readOnly)
    {
        string full = Path.GetFullPath(path);
        foreach (string directory in Parents(full))
        {
            if (Syscall.access(directory, AccessModes.X_OK) != 0)
            {
                return $"The directory '{directory}' may not be entered by this user (no x permission).";
            }
        }

        if (FileStatus.Get(full, out StatxBuffer status) != BaseErrno.None)
        {
            return $"The directory '{Path.GetDirectoryName(full)}' may not be written by this user.";
        }

        string mode = Convert.ToString(status.Mode & 0xFFF, 8).PadLeft(4, '0');
        string advice = $"The file belongs to {NameOf(status.Uid)} and has mode {mode}.";
        bool readable = Syscall.access(full, AccessModes.R_OK) == 0;
        return readable && !readOnly ? advice + " It may be opened read-only." : advice;
    }

    private static string NameOf(uint uid) => Syscall.getpwuid(uid)?.pw_name ?? $"user {uid}";

    // From the root down, so that the first one named is the one to change.
    private static List<string> Parents(string full)
    {
        List<string> parents = [];
        for (string? directory = Path.GetDirectoryName(full); directory is not null; directory = Path.GetDirectoryName(directory))
        {
            parents.Add(directory);
        }

        parents.Reverse();
        return parents;
    }
}
