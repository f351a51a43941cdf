using BlockMount.Block.Devices;

namespace BlockMount.Exports;

/// <summary>One way in which clients reach a device. Owned by the daemon; it does not own the device.</summary>
public abstract class Export : IAsyncDisposable
{
    /// <summary>Unique among the exports of a daemon.</summary>
    public abstract string Id { get; }

    /// <summary>"fuse" or "nbd".</summary>
    public abstract string Kind { get; }

    /// <summary>Where clients find it, for people: a mount point or an NBD URI.</summary>
    public abstract string Address { get; }

    /// <summary>The device that is served.</summary>
    public abstract BlockDevice Device { get; }

    /// <summary>True if clients may write.</summary>
    public abstract bool Writable { get; }

    /// <summary>Completes when the export has ended, by itself (unmounted from outside, fatal error) or by disposal.</summary>
    public abstract Task Completion { get; }

    /// <summary>Takes no new requests, lets those in flight end, and disconnects the clients. Does not flush the device.</summary>
    public abstract ValueTask DisposeAsync();
}
