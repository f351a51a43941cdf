using BlockMount.Base;

namespace BlockMount.Storage;

/// <summary>Who does the transfers of a file that have to wait for the disk (QEMU's aio=). Page-cached data never gets there.</summary>
public enum IoEngine
{
    /// <summary>
    /// What was measured to be best: io_uring where the kernel offers it, threads for lone writes and elsewhere. See README.md beside this file.
    /// </summary>
    Auto,

    /// <summary>Threads that wait in blocking calls.</summary>
    Threads,

    /// <summary>One io_uring for all files, for everything that it can do; opening fails where the kernel does not offer it.</summary>
    IoUring,
}

/// <summary>Chooses the engine of a file, and starts the process's io_uring when the first file asks for it.</summary>
internal static class TransferEngines
{
    // As many requests as the kernel has at a time; more wait in a queue of ours.
    private const int RingDepth = 256;

    private static readonly Lazy<(UringEngine? Engine, Errno Errno)> s_uring = new(() =>
    {
        UringEngine? engine = UringEngine.TryStart(RingDepth, out Errno errno);
        return (engine, errno);
    });

    private static readonly Lazy<ITransferEngine> s_best = new(
        () => s_uring.Value.Engine is { } ring ? new AdaptiveEngine(ring, ThreadEngine.Instance) : ThreadEngine.Instance);

    /// <summary>Why the process's io_uring could not be started; null if it was, or if no file has asked for it so far.</summary>
    public static string? Obstacle => s_uring.IsValueCreated && s_uring.Value.Engine is null ? Describe(s_uring.Value.Errno).What : null;

    /// <summary>The engine for a file that is opened with these options.</summary>
    /// <exception cref="BlockMountException">io_uring was asked for by name and is not there.</exception>
    public static ITransferEngine For(string path, StorageOpenOptions options) => options.Engine switch
    {
        IoEngine.Threads => ThreadEngine.Instance,
        IoEngine.IoUring => s_uring.Value.Engine ?? throw Unavailable(path),
        _ => s_best.Value,
    };

    private static BlockMountException Unavailable(string path)
    {
        (string what, string hint) = Describe(s_uring.Value.Errno);
        return new BlockMountException($"Could not open '{path}' with aio=io_uring: {what}", hint);
    }

    private static (string What, string Hint) Describe(Errno errno) => errno switch
    {
        Errno.ENOSYS => ("the kernel has no io_uring, or a filter of system calls hides it", "Use aio=threads."),
        Errno.EPERM or Errno.EACCES => (
            "io_uring is switched off", "See 'sysctl kernel.io_uring_disabled' and, in a container, its filter of system calls. Or use aio=threads."),
        _ => ($"io_uring does not start ({errno})", "Use aio=threads."),
    };
}
