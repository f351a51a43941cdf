using BlockMount.Base;
using BlockMount.Control.Commands;

namespace BlockMount.Daemon.Storage;

/// <summary>Serves one client until it is gone or the token is cancelled.</summary>
internal delegate Task ServeClient(Stream stream, CancellationToken cancel);

/// <summary>A character device: where a monitor meets its clients. Made by --chardev, used by --monitor. Owns what it has opened.</summary>
internal abstract class Channel(string label) : IAsyncDisposable
{
    private readonly TaskCompletionSource<ServeClient> _serve = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private ServeClient? _attached;

    /// <summary>Its id.</summary>
    public string Label => label;

    /// <summary>As query-chardev shows it.</summary>
    public MonitorChannel Shown => new(label, FileName, _attached is not null);

    /// <summary>Where it leads.</summary>
    protected abstract string FileName { get; }

    /// <summary>The monitor, once there is one and the daemon is complete; clients wait for it.</summary>
    protected Task<ServeClient> Monitor => _serve.Task;

    /// <summary>Opens it.</summary>
    /// <exception cref="BlockMountException">It cannot be opened.</exception>
    public virtual ValueTask OpenAsync(CancellationToken cancel) => ValueTask.CompletedTask;

    /// <summary>Gives it a monitor.</summary>
    /// <exception cref="BlockMountException">It has one.</exception>
    public void Attach(ServeClient serve) =>
        _attached = _attached is null ? serve : throw new BlockMountException($"Device '{label}' is in use");

    /// <summary>From now on the monitor talks to clients.</summary>
    public void Begin()
    {
        if (_attached is not null)
        {
            _serve.SetResult(_attached);
        }
    }

    /// <inheritdoc/>
    public abstract ValueTask DisposeAsync();
}

/// <summary>One that leads nowhere.</summary>
internal sealed class NullChannel(string label) : Channel(label)
{
    protected override string FileName => "null";

    public override ValueTask DisposeAsync() => ValueTask.CompletedTask;
}
