using BlockMount.Base;
using BlockMount.Block.Devices;
using BlockMount.Exports.Fuse;
using BlockMount.Exports.Nbd;
using Microsoft.Extensions.Logging;

namespace BlockMount.Exports;

/// <summary>
/// The exports of a daemon by their ids, and the NBD server that monitors start. Methods that change something come one at a time (the monitor sees to it);
/// looking is for any thread. Owns what was made through it, and neither the devices nor what was adopted.
/// </summary>
public sealed class ExportManager : IAsyncDisposable
{
    // Clients are waited for so long; what a frozen device holds back for them ends when it thaws, and the command that thaws it must have its turn.
    private static readonly TimeSpan s_stopPatience = TimeSpan.FromSeconds(5);

    private readonly ILogger _log;
    private readonly Lock _gate = new();

    // Guarded by _gate; in the order in which they were added.
    private readonly List<ManagedExport> _exports = [];

    private NbdServer? _server;

    // The end of the last server that was stopped.
    private Task _ending = Task.CompletedTask;

    public ExportManager(ILogger log) => _log = log;

    /// <summary>Called with the id of each export that has ended, by command or by itself, on any thread.</summary>
    public event Action<string>? Deleted;

    /// <summary>The exports there are now.</summary>
    public IReadOnlyList<ManagedExport> Exports
    {
        get
        {
            lock (_gate)
            {
                return [.. _exports];
            }
        }
    }

    /// <summary>Lists an export that somebody else made and will dispose.</summary>
    public void Adopt(Export export, string id) => Add(new ManagedExport(id, export, Owned: false));

    /// <summary>Starts the NBD server to which <see cref="AddNbd"/> adds.</summary>
    /// <exception cref="BlockMountException">It runs already, or the address cannot be used.</exception>
    public async ValueTask StartNbdServerAsync(NbdServerOptions options)
    {
        if (_server is not null)
        {
            throw new BlockMountException("NBD server already running");
        }

        _server = await NbdServer.StartAsync(options, _log);
    }

    /// <summary>
    /// Ends the NBD server with its exports and clients. Requests of theirs that do not end within seconds, on a frozen device, are waited for in the background.
    /// </summary>
    /// <exception cref="BlockMountException">It does not run.</exception>
    public async ValueTask StopNbdServerAsync()
    {
        NbdServer server = _server ?? throw new BlockMountException("NBD server not running");
        _server = null;
        _ending = EndServerAsync(server);
        await WaitAWhileAsync(_ending);
    }

    /// <summary>Serves a device on the NBD server.</summary>
    /// <param name="onEnd">Called once when the export has ended, before that is told: ends a device that was made for it.</param>
    /// <exception cref="BlockMountException">The id or name is taken, no server runs, or the device cannot be served so; <paramref name="onEnd"/> is not called.</exception>
    public void AddNbd(string id, BlockDevice device, string name, bool writable, string? description, Func<ValueTask>? onEnd = null)
    {
        CheckNew(id);
        NbdServer server = _server ?? throw new BlockMountException("NBD server not running");
        if (Exports.Any(export => export.Owned && export.Export is NbdExport nbd && nbd.Name == name))
        {
            throw new BlockMountException($"NBD server already has export named '{name}'");
        }

        Add(new ManagedExport(id, server.AddExport(name, device, writable, description), Owned: true) { OnEnd = onEnd });
    }

    /// <summary>Shows a device as a file.</summary>
    /// <param name="onEnd">As in <see cref="AddNbd"/>.</param>
    /// <exception cref="BlockMountException">The id is taken, or mounting failed; <paramref name="onEnd"/> is not called.</exception>
    public async ValueTask AddFuseAsync(string id, BlockDevice device, FuseExportOptions options, Func<ValueTask>? onEnd = null)
    {
        CheckNew(id);
        if (Exports.Any(export => export.Export is FuseExport && export.Export.Address == options.MountPoint))
        {
            throw new BlockMountException($"There already is a FUSE export on '{options.MountPoint}'");
        }

        Add(new ManagedExport(id, await FuseExport.StartAsync(device, options, _log), Owned: true) { OnEnd = onEnd });
    }

    /// <summary>
    /// Ends an export; <see cref="Deleted"/> tells when that is done: before this returns where no client has to be disconnected, else later.
    /// </summary>
    /// <param name="evenIfInUse">Disconnect clients; otherwise an export that has some stays.</param>
    /// <exception cref="BlockMountException">There is none of that id, it is ending, or it is in use.</exception>
    public async ValueTask RemoveAsync(string id, bool evenIfInUse)
    {
        ManagedExport export = Exports.FirstOrDefault(candidate => candidate.Id == id) ?? throw new BlockMountException($"Export '{id}' is not found");
        if (export.ShuttingDown)
        {
            throw new BlockMountException($"Export '{id}' is already shutting down");
        }

        bool idle = export.Export is NbdExport { ClientCount: 0 };
        if (!evenIfInUse && export.Export is NbdExport && !idle)
        {
            throw new BlockMountException($"export '{id}' still in use", "Use mode='hard' to force client disconnect");
        }

        export.ShuttingDown = true;
        _ = DisposeExportAsync(export.Export);
        if (idle)
        {
            await WaitAWhileAsync(export.Forgotten);
        }
    }

    /// <summary>Ends the NBD server and all exports that were made here.</summary>
    public async ValueTask DisposeAsync()
    {
        if (_server is not null)
        {
            await StopNbdServerAsync();
        }

        await _ending;
        await EndAsync(Exports.Where(export => export.Owned));
    }

    private async Task EndServerAsync(NbdServer server)
    {
        await EndAsync(Exports.Where(export => export is { Owned: true, Export: NbdExport }));
        await server.DisposeAsync();
    }

    // One after the other, so that what is told of them comes in their order and before the command's own answer.
    private static async ValueTask EndAsync(IEnumerable<ManagedExport> exports)
    {
        foreach (ManagedExport export in exports)
        {
            export.ShuttingDown = true;
            await export.Export.DisposeAsync();
            await export.Forgotten;
        }
    }

    private static async ValueTask WaitAWhileAsync(Task ending)
    {
        if (await Task.WhenAny(ending, Task.Delay(s_stopPatience)) == ending)
        {
            await ending;
        }
    }

    /// <summary>Refuses an id that an export has.</summary>
    /// <exception cref="BlockMountException">In QEMU's words.</exception>
    public void CheckNew(string id)
    {
        if (Exports.Any(export => export.Id == id))
        {
            throw new BlockMountException($"Block export id '{id}' is already in use");
        }
    }

    private void Add(ManagedExport export)
    {
        lock (_gate)
        {
            _exports.Add(export);
        }

        export.Forgotten = ForgetAtEndAsync(export);
    }

    // By a command, by an unmount from outside, or with its server.
    private async Task ForgetAtEndAsync(ManagedExport export)
    {
        await export.Export.Completion;
        if (export.Owned)
        {
            // Also one that has ended by itself: what is left of it, as a dead mount, goes.
            await DisposeExportAsync(export.Export);
        }

        await RunAtEndAsync(export);
        lock (_gate)
        {
            _ = _exports.Remove(export);
        }

        Deleted?.Invoke(export.Id);
    }

    private async Task RunAtEndAsync(ManagedExport export)
    {
        try
        {
            if (export.OnEnd is not null)
            {
                await export.OnEnd();
            }
        }
        catch (Exception error)
        {
            // The export is gone all the same; what was not written out shows in the log, and at the next flush.
            ExportLog.EndFailed(_log, export.Export.Address, error);
        }
    }

    private async Task DisposeExportAsync(Export export)
    {
        try
        {
            // The caller does not wait for an unmount.
            await Task.Yield();
            await export.DisposeAsync();
        }
        catch (Exception error)
        {
            // Nobody waits for it; what cannot be undone by the user shows in the log.
            ExportLog.EndFailed(_log, export.Address, error);
        }
    }
}

/// <summary>An export and the id by which commands name it.</summary>
/// <param name="Owned">The <see cref="ExportManager"/> disposes it.</param>
public sealed record ManagedExport(string Id, Export Export, bool Owned)
{
    /// <summary>True from the command that ends it until it has ended.</summary>
    public bool ShuttingDown { get; internal set; }

    /// <summary>Called once when it has ended; null: nothing is to be done.</summary>
    internal Func<ValueTask>? OnEnd { get; init; }

    /// <summary>Completes when the export has ended, is listed no more, and that was told.</summary>
    internal Task Forgotten { get; set; } = Task.CompletedTask;
}
