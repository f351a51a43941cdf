using BlockMount.Base;
using BlockMount.Base.Async;
using BlockMount.Base.Interop;
using BlockMount.Block.Devices;
using BlockMount.Exports.Fuse.Ring;
using Microsoft.Extensions.Logging;
using static BlockMount.Exports.Fuse.Abi.FuseFlags;

namespace BlockMount.Exports.Fuse;

/// <summary>A device shown as a regular file, by FUSE. Owns the mount and its workers, not the device.</summary>
public sealed partial class FuseExport : Export
{
    // How long a clean unmount is tried while somebody has the file open: probes by udev and the like pass quickly.
    private const int UnmountAttempts = 10;
    private static readonly TimeSpan s_unmountPause = TimeSpan.FromMilliseconds(20);
    private static readonly TimeSpan s_endingPatience = TimeSpan.FromSeconds(1);

    private readonly FuseExportOptions _options;
    private readonly FuseMount _mount;
    private readonly FuseSession _session;
    private readonly ILogger _logger;

    // One disposal at a time; the second finds nothing to do.
    private readonly AsyncMutex _disposal = new();

    private FuseExport(BlockDevice device, FuseExportOptions options, FuseMount mount, FuseSession session, ILogger logger)
    {
        Device = device;
        _options = options;
        _mount = mount;
        _session = session;
        _logger = logger;
    }

    /// <inheritdoc/>
    public override string Id => _options.Id ?? $"fuse:{_options.MountPoint}";

    /// <inheritdoc/>
    public override string Kind => "fuse";

    /// <inheritdoc/>
    public override string Address => _options.MountPoint;

    /// <inheritdoc/>
    public override BlockDevice Device { get; }

    /// <inheritdoc/>
    public override bool Writable => _options.Writable;

    /// <summary>Users other than the mounting one are admitted: what <see cref="AllowOther.Auto"/> came to.</summary>
    public bool AdmitsOthers => _mount.AdmitsOthers;

    /// <summary>How requests come from the kernel: what <see cref="FuseTransport.Auto"/> came to.</summary>
    public FuseTransport Transport => _session.Rings.Count > 0 ? FuseTransport.Uring : FuseTransport.Dev;

    /// <summary>The kernel reads the image on its own: reads do not come here, and are not counted.</summary>
    public bool IsPassthrough { get; private init; }

    /// <inheritdoc/>
    public override Task Completion => _session.Completion;

    /// <summary>The threads behind it.</summary>
    internal FuseSession Session => _session;

    /// <summary>
    /// Mounts <paramref name="device"/> and returns when the mount answers. The device outlives the export.
    /// </summary>
    /// <exception cref="BlockMountException">Not mounted; nothing is left behind.</exception>
    public static async ValueTask<FuseExport> StartAsync(BlockDevice device, FuseExportOptions options, ILogger logger)
    {
        if (options.Writable && device.ReadOnly)
        {
            throw new BlockMountException($"'{device.Name}' is read-only, so it cannot be exported writable", "export it read-only");
        }

        // Mounting blocks, on the kernel and perhaps on fusermount3.
        FuseExport export = await Task.Run(() => Mount(device, options, logger));
        try
        {
            await Task.Run(export.CheckAnswers);
            return export;
        }
        catch
        {
            await export.DisposeAsync();
            throw;
        }
    }

    /// <inheritdoc/>
    public override async ValueTask DisposeAsync()
    {
        using (AsyncMutex.Releaser held = await _disposal.LockAsync())
        {
            if (!Completion.IsCompleted)
            {
                await UnmountAsync();
            }
            else if (_mount.TryUnmount(lazy: true) is { } failure)
            {
                // The connection broke, or the kernel was told to abort it: the mount is still there, and dead.
                LogNotUnmounted(_logger, _mount.MountPoint, failure);
            }
        }

        await Completion;
        _mount.Dispose();
    }

    private static FuseExport Mount(BlockDevice device, FuseExportOptions options, ILogger logger)
    {
        string? obstacle = options.Transport == FuseTransport.Dev ? "" : FuseRingSet.Obstacle();
        if (obstacle is null)
        {
            try
            {
                return Mount(device, options, logger, FUSE_OVER_IO_URING);
            }
            catch (BlockIOException refused) when (options.Transport == FuseTransport.Auto)
            {
                LogNoRings(logger, options.MountPoint, refused.Message);
            }
        }
        else if (options.Transport == FuseTransport.Uring)
        {
            throw new BlockMountException($"Could not mount with transport=uring: {obstacle}", "allow io_uring (sysctl kernel.io_uring_disabled=0), or use '-o transport=dev'");
        }

        return Mount(device, options, logger, moreFeatures: 0);
    }

    private static FuseExport Mount(BlockDevice device, FuseExportOptions options, ILogger logger, ulong moreFeatures)
    {
        (FuseMount mount, FuseDeviceChannel first) = FuseMount.Create(options);
        List<FuseChannel> channels = [first];
        FuseSession? session = null;
        try
        {
            int flatFile = FlatFileOf(device, options);
            ulong agreed = Agree(mount, first, options, logger, moreFeatures | (flatFile >= 0 ? FUSE_PASSTHROUGH : 0));
            bool rings = (agreed & FUSE_OVER_IO_URING) != 0;
            int backingId = (agreed & FUSE_PASSTHROUGH) != 0 ? first.OpenBacking(flatFile) : 0;
            // With rings one worker is left for what the kernel sends over /dev/fuse in any case.
            int workers = rings ? 1 : options.Workers > 0 ? options.Workers : DefaultWorkers();
            while (channels.Count < workers)
            {
                channels.Add(first.Clone());
            }

            FuseFileAttributes attributes = new(device, options, options.Writable, mount.AdmitsOthers, TimeProvider.System);
            FuseFileOperations file = new(device, attributes, options.Writable, options.Growable, backingId);
            FuseDispatcher dispatcher = new(file, new FuseSpaceOperations(device, file), logger, mount.MountPoint);
            session = new FuseSession(
                mount.MountPoint, channels, dispatcher, logger, rings ? ended => new FuseRingSet(first, dispatcher, options.RingQueueShift, ended) : null);
            session.Start();
            return new FuseExport(device, options, mount, session, logger) { IsPassthrough = backingId > 0 };
        }
        catch
        {
            // Closing the descriptors lets whoever waits on the mount go on, then it can be unmounted.
            session?.StopAsync().Wait();
            channels.ForEach(channel => channel.Dispose());
            mount.TryUnmount(lazy: true);
            mount.Dispose();
            throw;
        }
    }

    // What the kernel may read on its own: a raw file that nobody writes and, as the options say, nobody replaces. Else -1.
    private static int FlatFileOf(BlockDevice device, FuseExportOptions options) =>
        options.Passthrough && device.ReadOnly ? device.Root.FlatFile?.PassthroughDescriptor ?? -1 : -1;

    // Returns the features that are in use.
    private static ulong Agree(FuseMount mount, FuseDeviceChannel channel, FuseExportOptions options, ILogger logger, ulong moreFeatures)
    {
        using FuseRequest request = new();
        FuseHandshake agreed = FuseHandshake.Run(channel, request, moreFeatures);
        bool rings = (agreed.Flags & FUSE_OVER_IO_URING) != 0;
        if (!rings && options.Transport == FuseTransport.Uring)
        {
            throw new BlockMountException(
                $"Could not mount on '{mount.MountPoint}' with transport=uring: the kernel does not offer FUSE over io_uring",
                "it needs Linux 6.14 and, as root, 'echo Y > /sys/module/fuse/parameters/enable_uring'; or use '-o transport=dev'");
        }

        LogMounted(logger, mount.MountPoint, agreed.Minor, agreed.Flags, mount.AdmitsOthers);
        return agreed.Flags;
    }

    // Several jobs gain from more workers than processors; PERFORMANCE.md: 4 at 2 cores.
    private static int DefaultWorkers() => Math.Clamp(Environment.ProcessorCount * 2, 2, 16);

    private void CheckAnswers()
    {
        int fd = Libc.open(_mount.MountPoint, LinuxConstants.O_RDONLY | LinuxConstants.O_CLOEXEC, 0);
        Errno errno = fd < 0 ? Libc.LastErrno : Errno.None;
        if (fd >= 0)
        {
            _ = Libc.close(fd);
        }

        // The owner and mode that the options ask for may lock ourselves out; the mount answers all the same.
        if (errno is not (Errno.None or Errno.EACCES))
        {
            throw new BlockMountException($"The mount on '{_mount.MountPoint}' does not answer: {ErrnoText.Describe(errno)}");
        }
    }

    private async ValueTask UnmountAsync()
    {
        string? obstacle = _mount.TryUnmount(lazy: false);
        for (int attempt = 1; obstacle is not null && attempt < UnmountAttempts; attempt++)
        {
            await Task.Delay(s_unmountPause);
            obstacle = _mount.TryUnmount(lazy: false);
        }

        if (obstacle is null)
        {
            // The kernel ends the workers' reads, unless a copy of the mount lives on in another mount namespace.
            await Task.WhenAny(Completion, Task.Delay(s_endingPatience));
        }
        else
        {
            LogBusy(_logger, _mount.MountPoint, obstacle);
            if (_mount.TryUnmount(lazy: true) is { } failure)
            {
                LogNotUnmounted(_logger, _mount.MountPoint, failure);
            }
        }

        // Answers what it has taken, then closes the channels.
        await _session.StopAsync();
        if (obstacle is not null)
        {
            // The remaining clients are cut off even while a process that was just forked holds a copy of a channel.
            _mount.Abort();
        }
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "{MountPoint}: mounted, FUSE 7.{Minor}, flags {Flags:x}, allow_other {AdmitsOthers}")]
    private static partial void LogMounted(ILogger logger, string mountPoint, uint minor, ulong flags, bool admitsOthers);

    [LoggerMessage(Level = LogLevel.Warning, Message = "{MountPoint}: FUSE over io_uring failed, /dev/fuse is used instead: {Reason}")]
    private static partial void LogNoRings(ILogger logger, string mountPoint, string reason);

    [LoggerMessage(Level = LogLevel.Warning, Message = "{MountPoint}: still in use ({Reason}); detached, the clients that have it open are cut off")]
    private static partial void LogBusy(ILogger logger, string mountPoint, string reason);

    [LoggerMessage(Level = LogLevel.Error, Message = "{MountPoint}: could not be unmounted: {Reason}")]
    private static partial void LogNotUnmounted(ILogger logger, string mountPoint, string reason);
}
