namespace BlockMount.Exports.Fuse;

/// <summary>The right to poll a mount's queue, which one of its workers has at a time. Thread-safe.</summary>
internal sealed class FusePoller
{
    private int _busy;

    /// <summary>Takes the right if it is free; then give it back with <see cref="End"/>.</summary>
    internal bool TryBegin() => Volatile.Read(ref _busy) == 0 && Interlocked.Exchange(ref _busy, 1) == 0;

    /// <summary>Gives the right back.</summary>
    internal void End() => Volatile.Write(ref _busy, 0);
}
