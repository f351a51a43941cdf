using BlockMount.Base.Async;

namespace BlockMount.Storage;

/// <summary>
/// What is best for each transfer: io_uring, but a thread for a write that is the file's only request. The kernel ends a direct write through io_uring on a
/// work queue of its own, and a thread that waits for it does without: half the time for a client with one write at a time. Thread-safe.
/// </summary>
internal sealed class AdaptiveEngine : ITransferEngine
{
    private readonly ITransferEngine _ring;
    private readonly ITransferEngine _threads;

    public AdaptiveEngine(ITransferEngine ring, ITransferEngine threads)
    {
        _ring = ring;
        _threads = threads;
    }

    /// <inheritdoc/>
    public ValueTask StartRead(ITransferTarget target, RequestGate gate, long offset, Memory<byte> buffer) =>
        _ring.StartRead(target, gate, offset, buffer);

    /// <inheritdoc/>
    public ValueTask StartWrite(ITransferTarget target, RequestGate gate, long offset, ReadOnlyMemory<byte> buffer)
    {
        // The caller has entered the gate for this one. Others may come or go meanwhile: either way is right.
        ITransferEngine engine = gate.InFlight > 1 ? _ring : _threads;
        return engine.StartWrite(target, gate, offset, buffer);
    }
}
