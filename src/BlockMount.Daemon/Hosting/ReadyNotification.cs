using System.Globalization;
using BlockMount.Base.Interop;

namespace BlockMount.Daemon.Hosting;

/// <summary>
/// The daemon's end of the pipe on which the command that started it waits. Until <see cref="Send"/> the daemon writes its
/// errors to the starter's own standard error; after it the two have nothing in common any more.
/// </summary>
public sealed unsafe class ReadyNotification
{
    /// <summary>Names the descriptor in the daemon's environment.</summary>
    public const string Variable = "BLOCKMOUNT_READY_FD";

    private const string DescriptorFolder = "/proc/self/fd";

    private readonly int _fd;

    private ReadyNotification(int fd)
    {
        _fd = fd;
    }

    /// <summary>The pipe that the environment names; null in a process that was started by hand. The variable is removed.</summary>
    public static ReadyNotification? TakeFromEnvironment()
    {
        string? text = Environment.GetEnvironmentVariable(Variable);
        if (text is null || !int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out int fd))
        {
            return null;
        }

        Environment.SetEnvironmentVariable(Variable, null);
        return new ReadyNotification(fd);
    }

    /// <summary>
    /// Leaves the terminal (standard streams to /dev/null, working folder to /), then lets the starter go.
    /// </summary>
    /// <param name="keepFolder">Stay in the folder: commands of a monitor name files from there.</param>
    /// <returns>False when the starter is gone: it was interrupted, and nobody asked for a daemon any more.</returns>
    public bool Send(bool keepFolder = false)
    {
        DetachStandardStreams();
        if (!keepFolder)
        {
            _ = LibcProcess.chdir("/");
        }

        byte ready = 1;
        nint written = Libc.write(_fd, &ready, 1);
        _ = Libc.close(_fd);
        return written == 1;
    }

    // The runtime and its Console keep copies of the standard descriptors. Left open, they would hold up whoever waits for the
    // end of the starter's output. A regular file holds nobody up, and the log may be one: those copies stay.
    private static void DetachStandardStreams()
    {
        string?[] streams = [LinkOf("0"), LinkOf("1"), LinkOf("2")];
        int nowhere = Libc.open("/dev/null", LinuxConstants.O_RDWR | LinuxConstants.O_CLOEXEC, 0);
        if (nowhere < 0)
        {
            return;
        }

        foreach (string entry in Directory.GetFileSystemEntries(DescriptorFolder))
        {
            string name = Path.GetFileName(entry);
            int fd = int.Parse(name, NumberStyles.None, CultureInfo.InvariantCulture);
            if (fd <= 2 || (LinkOf(name) is { } target && streams.Contains(target) && IsPipeOrTerminal(target)))
            {
                _ = LibcProcess.dup2(nowhere, fd);
            }
        }

        _ = Libc.close(nowhere);
    }

    private static bool IsPipeOrTerminal(string target) =>
        target.StartsWith("pipe:", StringComparison.Ordinal)
        || target.StartsWith("socket:", StringComparison.Ordinal)
        || (target.StartsWith("/dev/", StringComparison.Ordinal) && target != "/dev/null" && !target.StartsWith("/dev/shm/", StringComparison.Ordinal));

    private static string? LinkOf(string descriptor) => new FileInfo(Path.Combine(DescriptorFolder, descriptor)).LinkTarget;
}
