using BlockMount.Base;
using BlockMount.Control;
using BlockMount.Daemon.Hosting;
using BlockMount.Exports;
using BlockMount.Formats;
using Microsoft.Extensions.Logging;

namespace BlockMount.Daemon.Storage;

/// <summary>
/// The life of a daemon with qemu-storage-daemon's options: carries them out in their order, writes the pidfile, lets monitors talk, waits for the end, and takes
/// everything down in the opposite order. Owns the graph, the exports, the monitors and the pidfile.
/// </summary>
internal sealed partial class StorageHost : IAsyncDisposable
{
    private readonly StorageRequest _request;
    private readonly ILogger _log;
    private readonly GraphHost _host;
    private readonly ChannelTable _channels;
    private readonly ControlMonitor _monitor;
    private PidFile? _pidFile;
    private Task<string?>? _stopping;

    private StorageHost(StorageRequest request, LoggerFactory logs)
    {
        _request = request;
        _log = logs.CreateLogger("Daemon");
        _channels = new ChannelTable(logs.CreateLogger("Monitor"), request.Daemonize);
        _host = new GraphHost(Composition.NewGraph(error => LogLeftover(error.Message), LogCorruption), new ExportManager(logs.CreateLogger("Export")))
        {
            ListChannels = () => _channels.Shown,
        };
        _monitor = new ControlMonitor(_host);
    }

    /// <summary>Serves until the end and returns the exit code.</summary>
    /// <param name="ready">The starter that waits for readiness; null in the foreground.</param>
    /// <exception cref="BlockMountException">It could not start, and nothing is left behind; or it could not end cleanly.</exception>
    public static async Task<int> RunAsync(StorageRequest request, ReadyNotification? ready)
    {
        using Signals signals = new();
        // A monitor may have the standard output; what goes wrong is told at the standard error, as QEMU does.
        using LogWriter? writer = ready is null ? LogWriter.ToStandardError() : null;
        using LoggerFactory logs = new(writer is null ? [] : [writer], new LoggerFilterOptions { MinLevel = LogLevel.Warning });
        await using StorageHost host = new(request, logs);
        if (!await host.StartAsync(signals))
        {
            return ExitCodes.Success;
        }

        return await host.ServeAsync(signals, ready);
    }

    /// <summary>Takes down what <see cref="RunAsync"/> has not taken down: after a failed start.</summary>
    public async ValueTask DisposeAsync() => _ = await StopAsync();

    // False if a signal came first: an option may wait for a client.
    private async Task<bool> StartAsync(Signals signals)
    {
        // Not disposed of: a signal may come at any time later.
        CancellationTokenSource stopping = new();
        _ = signals.Received.ContinueWith(_ => stopping.CancelAsync(), CancellationToken.None, TaskContinuationOptions.ExecuteSynchronously, TaskScheduler.Default);
        StorageOptions options = new(_monitor, _channels);
        try
        {
            foreach (OptionWord option in _request.Options)
            {
                await options.ApplyAsync(option, stopping.Token);
            }
        }
        catch (OperationCanceledException)
        {
            return false;
        }

        _pidFile = _request.PidFile is null ? null : PidFile.Write(_request.PidFile);
        return true;
    }

    private async Task<int> ServeAsync(Signals signals, ReadyNotification? ready)
    {
        if (ready is null || ready.Send())
        {
            _channels.Begin();
            _ = await Task.WhenAny(signals.Received, _host.Quitting);
        }

        if (signals.Received.IsCompleted)
        {
            _monitor.EmitShutdownBySignal();
        }

        return await StopAsync() is { } failure ? throw new BlockMountException($"the images were not closed cleanly: {failure}") : ExitCodes.Success;
    }

    private Task<string?> StopAsync() => _stopping ??= StopCoreAsync();

    private async Task<string?> StopCoreAsync()
    {
        ClosingSteps steps = new();
        await steps.TakeAsync(_channels.DisposeAsync);
        await _host.EndExportsAsync(steps);
        await _host.CloseAsync(steps);
        _pidFile?.Dispose();
        return steps.FirstFailure;
    }

    private void LogCorruption(CorruptionReport report) => LogCorruption(report.Message, report.Hint);

    [LoggerMessage(Level = LogLevel.Error, Message = "{Damage}. {Hint}")]
    private partial void LogCorruption(string damage, string hint);

    [LoggerMessage(Level = LogLevel.Warning, Message = "left behind: {Reason}")]
    private partial void LogLeftover(string reason);
}
