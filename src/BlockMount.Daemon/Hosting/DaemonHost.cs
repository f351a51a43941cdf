using BlockMount.Base;
using BlockMount.Base.Interop;
using BlockMount.Block.Devices;
using BlockMount.Block.Graph;
using BlockMount.Block.Nodes;
using BlockMount.Daemon.Cli;
using BlockMount.Daemon.Registry;
using BlockMount.Exports;
using BlockMount.Exports.Fuse;
using BlockMount.Exports.Nbd;
using BlockMount.Formats;
using BlockMount.Storage;
using Microsoft.Extensions.Logging;

namespace BlockMount.Daemon.Hosting;

/// <summary>
/// One daemon's life: checks, opens the chain, serves it, waits for the end, and takes everything down in the opposite
/// order. Owns what is served (<see cref="GraphHost"/>), the registry entry and the mount point file.
/// </summary>
internal sealed partial class DaemonHost : IAsyncDisposable
{
    // What the commands of a monitor call the one device when it was given no name.
    private const string DefaultDevice = "drive0";

    // Ids of the exports that the command line asks for.
    private const string MountExportId = "mount";
    private const string NbdExportId = "nbd";

    private readonly MountRequest _request;
    private readonly ILogger _log;
    private readonly LoggerFactory _logs;
    private readonly GraphHost _host;

    // Set one after the other by StartAsync; what is set is taken down by StopAsync.
    private MountPoint? _mountPoint;
    private BlockDevice? _device;
    private NbdServer? _nbd;
    private Monitors? _monitors;
    private string? _uri;
    private Export? _fuse;
    private Registration? _registration;
    private Task<string?>? _stopping;

    private DaemonHost(MountRequest request, LoggerFactory logs)
    {
        _request = request;
        _log = logs.CreateLogger("Daemon");
        _logs = logs;
        _host = new GraphHost(Composition.NewGraph(error => LogLeftover(error.Message), LogCorruption), new ExportManager(logs.CreateLogger("Export")));
    }

    /// <summary>Serves until the end and returns the exit code.</summary>
    /// <param name="ready">The starter that waits for readiness; null in the foreground.</param>
    /// <exception cref="BlockMountException">It could not start; everything is as before.</exception>
    public static async Task<int> RunAsync(MountRequest request, ReadyNotification? ready)
    {
        using Signals signals = new();
        using LogWriter? writer = OpenLog(request, ready is null);
        using LoggerFactory logs = new(
            writer is null ? [] : [writer],
            new LoggerFilterOptions { MinLevel = request.Verbose ? LogLevel.Debug : LogLevel.Information });
        if (writer is not null)
        {
            ErrorReport.SetCrashLog(text => writer.WriteLine("error", "Daemon", text));
        }

        await using DaemonHost host = new(request, logs);
        await host.StartAsync();
        return await host.ServeAsync(signals, ready);
    }

    /// <summary>Takes down what <see cref="RunAsync"/> has not taken down: after a failed start.</summary>
    public async ValueTask DisposeAsync() => _ = await StopAsync();

    private static LogWriter? OpenLog(MountRequest request, bool foreground)
    {
        if (request.LogFile is null)
        {
            return foreground && request.Verbose ? LogWriter.ToStandardError() : null;
        }

        try
        {
            return LogWriter.ToFile(request.LogFile);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            throw new BlockMountException($"could not write the log file '{request.LogFile}': {error.Message}", innerException: error);
        }
    }

    // Refusals first, then what leaves traces: the registry entry, the mount point's file, the mount.
    private async Task StartAsync()
    {
        if (_request.MountPoint is { } place)
        {
            _mountPoint = MountPoint.Check(place, WasMadeByUs);
        }

        string image = HostPath.Canonical(_request.Image);
        Node root = await Composition.OpenChainAsync(_request, LogCorruption);
        if (PosixStorage.IoUringObstacle is { } obstacle)
        {
            LogThreads(obstacle);
        }

        bool writable = !_request.Options.ReadOnly && !root.ReadOnly;
        _device = await _host.Control.RunAsync(scope => AddDeviceAsync(scope, root, writable));
        if (_request.Nbd is not null)
        {
            (_nbd, Export export, _uri) = await Composition.ServeNbdAsync(_request, _device, _logs.CreateLogger("Nbd"));
            _host.Exports.Adopt(export, NbdExportId);
        }

        _monitors = await Monitors.StartAsync(_request, _host, _logs.CreateLogger("Monitor"));
        Register(image, root);
        if (_mountPoint is not null)
        {
            _mountPoint.Make();
            _fuse = await Composition.MountAsync(_device, FuseOptions(image, writable), _logs.CreateLogger("Fuse"));
            _host.Exports.Adopt(_fuse, MountExportId);
        }

        LogStarted(image, _mountPoint?.FullPath, _uri);
    }

    // What the commands of a monitor mean by a device.
    private async ValueTask<BlockDevice> AddDeviceAsync(ControlScope scope, Node root, bool writable)
    {
        _host.Graph.Adopt(scope, root);
        return await _host.Graph.AddDeviceAsync(scope, root, new DeviceOptions
        {
            Name = _request.Id ?? DefaultDevice,
            Writable = writable,
            DiscardEnabled = _request.Options.Discard,
        });
    }

    private FuseExportOptions FuseOptions(string image, bool writable) => new()
    {
        MountPoint = _mountPoint!.FullPath,
        FileSystemName = image,
        Writable = writable,
        Growable = _request.Options.Growable,
        AllowOther = _request.Options.AllowOther,
        Workers = _request.Options.Workers,
        Transport = _request.Options.Transport,
        Passthrough = _request.Options.Passthrough && _monitors is null,
        UserId = _request.Options.UserId,
        GroupId = _request.Options.GroupId,
        Mode = _request.Options.Mode,
    };

    private void Register(string image, Node root)
    {
        RegistryEntry entry = new()
        {
            Id = _request.Id ?? DaemonRegistry.IdFor(image),
            Pid = Environment.ProcessId,
            StartTicks = ProcessStart.Ticks(),
            Uid = LibcProcess.geteuid(),
            Image = image,
            Format = root.DriverName,
            Depth = DepthOf(root),
            VirtualSize = root.Size,
            ReadOnly = _device!.ReadOnly,
            Started = DateTime.UtcNow,
            MountPoint = _mountPoint?.FullPath,
            MountPointMade = _mountPoint?.Made ?? false,
            Nbd = _uri,
        };
        try
        {
            _registration = DaemonRegistry.Own().Register(entry, _request.Id is not null);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            ErrorReport.Warn($"{error.Message}; 'blockmount ls' will not show this daemon");
        }
    }

    // A predecessor that was killed had made the mount point's file: then it is ours to remove.
    private static bool WasMadeByUs(string mountPoint) => DaemonRegistry.Own().List()
        .Exists(daemon => !daemon.Alive && daemon.Entry.MountPointMade && daemon.Entry.MountPoint == mountPoint);

    private static int DepthOf(Node root)
    {
        int depth = 0;
        for (Node? node = root; node is not null; node = node.Backing)
        {
            depth++;
        }

        return depth;
    }

    private async Task<int> ServeAsync(Signals signals, ReadyNotification? ready)
    {
        string? failure = null;
        if (ready is null)
        {
            TextWriter terminal = _request.MonitorInTerminal ? Console.Error : Console.Out;
            terminal.WriteLine($"blockmount: serving '{_request.Image}' at {string.Join(" and ", Addresses())}; Ctrl-C ends it");
        }

        if (ready is null || ready.Send(keepFolder: _monitors is not null))
        {
            _monitors?.ServeTerminal();
            Task ended = await Task.WhenAny(signals.Received, _host.Quitting, _fuse?.Completion ?? signals.Received);
            failure = ended.Exception?.GetBaseException().Message;
        }

        if (signals.Received.IsCompleted)
        {
            _monitors?.EmitShutdownBySignal();
        }

        LogEnding(failure ?? (signals.Received.IsCompleted ? signals.Received.Result.ToString() : _host.Quitting.IsCompleted ? "quit" : "unmounted"));
        failure = await StopAsync() ?? failure;
        if (failure is null)
        {
            return ExitCodes.Success;
        }

        LogFailed(failure);
        throw new BlockMountException($"'{_request.Image}' was not closed cleanly: {failure}");
    }

    private IEnumerable<string> Addresses() => new[] { _mountPoint?.FullPath, _uri }.OfType<string>();

    /// <summary>Takes down what was started, once, and all of it even when a part fails.</summary>
    /// <returns>The first failure that may have cost data, or null.</returns>
    private Task<string?> StopAsync() => _stopping ??= StopCoreAsync();

    private async Task<string?> StopCoreAsync()
    {
        ClosingSteps steps = new();
        if (_monitors is not null)
        {
            await steps.TakeAsync(_monitors.DisposeAsync);
        }

        await _host.EndExportsAsync(steps);
        if (_fuse is not null)
        {
            await steps.TakeAsync(_fuse.DisposeAsync);
        }

        if (_nbd is not null)
        {
            await steps.TakeAsync(_nbd.DisposeAsync);
        }

        await _host.CloseAsync(steps);
        try
        {
            _mountPoint?.Remove();
            _registration?.End(steps.FirstFailure);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            LogLeftover(error.Message);
        }

        _registration?.Dispose();
        return steps.FirstFailure;
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "serving {Image} at {MountPoint}, NBD at {Nbd}")]
    private partial void LogStarted(string image, string? mountPoint, string? nbd);

    [LoggerMessage(Level = LogLevel.Information, Message = "I/O threads instead of io_uring: {Reason}")]
    private partial void LogThreads(string reason);

    [LoggerMessage(Level = LogLevel.Information, Message = "ending: {Reason}")]
    private partial void LogEnding(string reason);

    private void LogCorruption(CorruptionReport report) => LogCorruption(report.Message, report.Hint);

    [LoggerMessage(Level = LogLevel.Error, Message = "{Damage}. {Hint}")]
    private partial void LogCorruption(string damage, string hint);

    [LoggerMessage(Level = LogLevel.Error, Message = "not closed cleanly: {Failure}")]
    private partial void LogFailed(string failure);

    [LoggerMessage(Level = LogLevel.Warning, Message = "left behind: {Reason}")]
    private partial void LogLeftover(string reason);
}
