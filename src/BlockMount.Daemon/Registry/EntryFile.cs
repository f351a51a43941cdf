using System.Text.Json;
using BlockMount.Base;
using BlockMount.Base.Interop;
using Microsoft.Win32.SafeHandles;

namespace BlockMount.Daemon.Registry;

/// <summary>
/// A registry file that is open. Its daemon holds an exclusive flock on it for life, so that a test of the lock tells a
/// living daemon from a dead one, whatever became of its pid.
/// </summary>
internal sealed class EntryFile : IDisposable
{
    // No entry comes near it; a longer file is not ours.
    private const int BytesMax = 1 << 20;

    private readonly SafeFileHandle _handle;

    private EntryFile(string path, SafeFileHandle handle)
    {
        Path = path;
        _handle = handle;
    }

    /// <summary>Where it was opened; the name may lead elsewhere by now.</summary>
    public string Path { get; }

    /// <summary>Opens an existing file for reading; null when it is gone or may not be read.</summary>
    public static EntryFile? TryOpen(string path)
    {
        // Another user's folder may hold anything: no links, and no waiting for the other end of a pipe.
        int fd = Libc.open(
            path,
            LinuxConstants.O_RDONLY | LinuxConstants.O_CLOEXEC | LinuxConstants.O_NOFOLLOW | LinuxConstants.O_NONBLOCK,
            0);
        return fd < 0 ? null : new EntryFile(path, new SafeFileHandle(fd, ownsHandle: true));
    }

    /// <summary>
    /// Puts <paramref name="entry"/> under <paramref name="path"/> in one step, already locked. The caller keeps the result
    /// open as long as the daemon lives.
    /// </summary>
    /// <param name="mode">Permission bits of the file.</param>
    /// <exception cref="IOException">The folder cannot be written.</exception>
    public static EntryFile Publish(string path, RegistryEntry entry, uint mode)
    {
        string temporary = $"{path}.{Environment.ProcessId}";
        int fd = Libc.open(
            temporary,
            LinuxConstants.O_RDWR | LinuxConstants.O_CREAT | LinuxConstants.O_TRUNC | LinuxConstants.O_CLOEXEC | LinuxConstants.O_NOFOLLOW,
            mode);
        if (fd < 0)
        {
            throw new IOException($"could not write '{temporary}': {ErrnoText.Describe(Libc.LastErrno)}");
        }

        EntryFile file = new(path, new SafeFileHandle(fd, ownsHandle: true));
        _ = LibcProcess.flock(fd, LibcProcess.LOCK_EX);
        RandomAccess.Write(file._handle, JsonSerializer.SerializeToUtf8Bytes(entry, RegistryJson.Default.RegistryEntry), 0);
        File.Move(temporary, path, overwrite: true);
        return file;
    }

    /// <summary>The entry, or null when the content is not one.</summary>
    public RegistryEntry? Read()
    {
        try
        {
            long length = RandomAccess.GetLength(_handle);
            if (length is 0 or > BytesMax)
            {
                return null;
            }

            byte[] content = new byte[length];
            int count = RandomAccess.Read(_handle, content, 0);
            return JsonSerializer.Deserialize(content.AsSpan(0, count), RegistryJson.Default.RegistryEntry);
        }
        catch (Exception error) when (error is JsonException or IOException or NotSupportedException)
        {
            return null;
        }
    }

    /// <summary>True while the daemon that published the file lives.</summary>
    public bool IsHeld()
    {
        int fd = (int)_handle.DangerousGetHandle();
        if (LibcProcess.flock(fd, LibcProcess.LOCK_SH | LibcProcess.LOCK_NB) < 0)
        {
            return true;
        }

        _ = LibcProcess.flock(fd, LibcProcess.LOCK_UN);
        return false;
    }

    /// <summary>Closes the file, and so gives the lock back.</summary>
    public void Dispose() => _handle.Dispose();
}
