using System.Text;
using BlockMount.Base;
using BlockMount.Base.Interop;

namespace BlockMount.Daemon.Registry;

/// <summary>A daemon as the registry knows it.</summary>
/// <param name="Entry">What it said of itself.</param>
/// <param name="Path">Its file.</param>
/// <param name="Alive">It held its lock a moment ago.</param>
/// <param name="Own">It stands in this user's registry. What others write is shown, and waited for, but no reason to signal or delete.</param>
internal sealed record RegisteredDaemon(RegistryEntry Entry, string Path, bool Alive, bool Own);

/// <summary>
/// The folder with one file per daemon: /run/blockmount for root, $XDG_RUNTIME_DIR/blockmount for others. BLOCKMOUNT_RUNTIME_DIR
/// names another one.
/// </summary>
internal sealed class DaemonRegistry
{
    private const string Suffix = ".json";
    private const string SystemFolder = "/run/blockmount";

    private readonly string _folder;
    private readonly bool _shared;
    private readonly bool _own;

    private DaemonRegistry(string folder, bool shared, bool own = true)
    {
        _folder = folder;
        _shared = shared;
        _own = own;
    }

    /// <summary>The registry that daemons of this user write to.</summary>
    public static DaemonRegistry Own()
    {
        if (Environment.GetEnvironmentVariable("BLOCKMOUNT_RUNTIME_DIR") is { Length: > 0 } named)
        {
            return new DaemonRegistry(Path.GetFullPath(named), shared: false);
        }

        uint user = LibcProcess.geteuid();
        if (user == 0)
        {
            return new DaemonRegistry(SystemFolder, shared: true);
        }

        string? runtime = Environment.GetEnvironmentVariable("XDG_RUNTIME_DIR");
        return new DaemonRegistry(
            string.IsNullOrEmpty(runtime) ? $"/tmp/blockmount-{user}" : Path.Combine(runtime, "blockmount"),
            shared: false);
    }

    /// <summary>The own registry first, then the others that this user may look into.</summary>
    public static IEnumerable<DaemonRegistry> Visible()
    {
        DaemonRegistry own = Own();
        yield return own;
        if (Environment.GetEnvironmentVariable("BLOCKMOUNT_RUNTIME_DIR") is { Length: > 0 })
        {
            yield break;
        }

        if (!own._shared)
        {
            yield return new DaemonRegistry(SystemFolder, shared: true, own: false);
        }
        else if (Directory.Exists("/run/user"))
        {
            foreach (string user in Directory.EnumerateDirectories("/run/user"))
            {
                yield return new DaemonRegistry(Path.Combine(user, "blockmount"), shared: false, own: false);
            }
        }
    }

    /// <summary>
    /// Enters a daemon. An id that was not chosen by the user gets a number appended when it is taken. The leftover of a dead
    /// daemon with the same id or mount point is replaced.
    /// </summary>
    /// <exception cref="BlockMountException">The id or the mount point belongs to a living daemon.</exception>
    /// <exception cref="IOException">The folder cannot be made or written.</exception>
    public Registration Register(RegistryEntry entry, bool idChosen)
    {
        MakeFolder();
        using IDisposable held = LockFolder();
        HashSet<string> taken = [];
        foreach (RegisteredDaemon other in List())
        {
            if (other.Alive)
            {
                RefuseSameMountPoint(entry, other.Entry);
                taken.Add(other.Entry.Id);
            }
            else if (other.Entry.MountPoint is not null && other.Entry.MountPoint == entry.MountPoint)
            {
                File.Delete(other.Path);
            }
        }

        if (idChosen && taken.Contains(entry.Id))
        {
            throw new BlockMountException($"the id '{entry.Id}' is taken by a running daemon", "Choose another --id, or see 'blockmount ls'.");
        }

        string id = entry.Id;
        for (int number = 2; taken.Contains(id); number++)
        {
            id = $"{entry.Id}-{number}";
        }

        return new Registration(PathOf(id), entry with { Id = id }, Mode);
    }

    /// <summary>All entries, dead ones too. A folder that is missing or closed to this user has none.</summary>
    public List<RegisteredDaemon> List()
    {
        List<RegisteredDaemon> result = [];
        foreach (string path in Files())
        {
            using EntryFile? file = EntryFile.TryOpen(path);
            if (file?.Read() is { } entry)
            {
                result.Add(new RegisteredDaemon(entry, path, file.IsHeld(), _own));
            }
        }

        return result;
    }

    /// <summary>Removes the files of dead daemons, except those that still have a failure to tell. Others' registries stay as they are.</summary>
    public void RemoveDead()
    {
        if (!_own || !List().Exists(daemon => !daemon.Alive))
        {
            return;
        }

        try
        {
            using IDisposable held = LockFolder();
            foreach (RegisteredDaemon daemon in List())
            {
                if (!daemon.Alive && daemon.Entry.CloseError is null)
                {
                    File.Delete(daemon.Path);
                }
            }
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            // A full or read-only /run: a dead entry does no harm, the next command tries again.
        }
    }

    /// <summary>An id that can be a file's name, made from the image's name.</summary>
    public static string IdFor(string image)
    {
        StringBuilder id = new();
        foreach (char c in Path.GetFileNameWithoutExtension(image))
        {
            id.Append(IsIdCharacter(c) ? c : '-');
        }

        string text = id.ToString().TrimStart('.', '-');
        return text.Length == 0 ? "image" : text[..Math.Min(text.Length, 64)];
    }

    /// <summary>True if <paramref name="id"/> can be a file's name without surprises.</summary>
    public static bool IsValidId(string id) =>
        id.Length is > 0 and <= 64 && id[0] is not ('.' or '-') && id.All(IsIdCharacter);

    private uint Mode => _shared ? 0x1A4u : 0x180u;

    private static bool IsIdCharacter(char c) => char.IsAsciiLetterOrDigit(c) || c is '-' or '_' or '.';

    private static void RefuseSameMountPoint(RegistryEntry entry, RegistryEntry other)
    {
        if (entry.MountPoint is not null && entry.MountPoint == other.MountPoint)
        {
            throw new BlockMountException(
                $"'{entry.MountPoint}' already shows '{other.Image}' (pid {other.Pid})",
                $"Unmount it first: blockmount umount '{entry.MountPoint}'");
        }
    }

    private string PathOf(string id) => Path.Combine(_folder, id + Suffix);

    private string[] Files()
    {
        try
        {
            return Directory.Exists(_folder) && !(_own && IsForeign()) ? Directory.GetFiles(_folder, "*" + Suffix) : [];
        }
        catch (UnauthorizedAccessException)
        {
            return [];
        }
    }

    private void MakeFolder()
    {
        UnixFileMode owner = UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute;
        UnixFileMode others = UnixFileMode.GroupRead | UnixFileMode.GroupExecute | UnixFileMode.OtherRead | UnixFileMode.OtherExecute;
        Directory.CreateDirectory(_folder, _shared ? owner | others : owner);
        if (IsForeign())
        {
            throw new IOException($"the folder '{_folder}' belongs to another user");
        }
    }

    // In /tmp anybody may have made the folder before.
    private bool IsForeign() => new Mono.Unix.UnixDirectoryInfo(_folder).OwnerUserId != LibcProcess.geteuid();

    // Held while the set of files is looked at and changed; readers go without.
    private Microsoft.Win32.SafeHandles.SafeFileHandle LockFolder()
    {
        int fd = Libc.open(
            Path.Combine(_folder, ".lock"),
            LinuxConstants.O_RDWR | LinuxConstants.O_CREAT | LinuxConstants.O_CLOEXEC | LinuxConstants.O_NOFOLLOW,
            0x180);
        if (fd < 0)
        {
            throw new IOException($"could not write in '{_folder}': {ErrnoText.Describe(Libc.LastErrno)}");
        }

        _ = LibcProcess.flock(fd, LibcProcess.LOCK_EX);
        return new Microsoft.Win32.SafeHandles.SafeFileHandle(fd, ownsHandle: true);
    }
}
