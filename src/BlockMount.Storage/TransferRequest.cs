using System.Runtime.InteropServices;
using BlockMount.Base.Async;
using Microsoft.Extensions.ObjectPool;

namespace BlockMount.Storage;

/// <summary>
/// A read or write that has to wait for the disk. Pooled: rented by <see cref="Start"/>, filled once, run once on an I/O
/// thread, and back in the pool when its waiter has taken the result. The caller's buffer is borrowed until then.
/// </summary>
internal sealed class TransferRequest : IoWork
{
    private static readonly ObjectPool<TransferRequest> s_pool = new DefaultObjectPool<TransferRequest>(new Policy(), 1024);

    // Set by Start, cleared by OnConsumed.
    private ITransferTarget? _target;
    private RequestGate? _gate;
    private Memory<byte> _buffer;
    private long _offset;
    private bool _isWrite;

    /// <summary>Queues a read. The gate has been entered by the caller; the request leaves it.</summary>
    public static ValueTask StartRead(ITransferTarget target, RequestGate gate, long offset, Memory<byte> buffer) =>
        Start(target, gate, offset, buffer, isWrite: false);

    /// <summary>Queues a write. The gate has been entered by the caller; the request leaves it.</summary>
    public static ValueTask StartWrite(ITransferTarget target, RequestGate gate, long offset, ReadOnlyMemory<byte> buffer) =>
        Start(target, gate, offset, MemoryMarshal.AsMemory(buffer), isWrite: true);

    /// <inheritdoc/>
    protected override void Run()
    {
        try
        {
            if (_isWrite)
            {
                _target!.BlockingWrite(_offset, _buffer.Span);
            }
            else
            {
                _target!.BlockingRead(_offset, _buffer.Span);
            }
        }
        finally
        {
            // Before the waiter hears of it: whoever has awaited everything may dispose of the file at once.
            _gate!.Exit();
        }
    }

    /// <inheritdoc/>
    protected override void OnConsumed()
    {
        _target = null;
        _gate = null;
        _buffer = default;
        Reset();
        s_pool.Return(this);
    }

    private static ValueTask Start(ITransferTarget target, RequestGate gate, long offset, Memory<byte> buffer, bool isWrite)
    {
        TransferRequest request = s_pool.Get();
        request._target = target;
        request._gate = gate;
        request._offset = offset;
        request._buffer = buffer;
        request._isWrite = isWrite;

        // Taken before the request is queued: afterwards it belongs to the I/O thread and then to the waiter.
        ValueTask completion = request.Task;
        IoThreads.Shared.Enqueue(request);
        return completion;
    }

    private sealed class Policy : IPooledObjectPolicy<TransferRequest>
    {
        public TransferRequest Create() => new();

        public bool Return(TransferRequest request) => true;
    }
}
