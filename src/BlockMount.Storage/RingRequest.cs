using System.Buffers;
using System.Diagnostics;
using BlockMount.Base;
using BlockMount.Base.Async;
using BlockMount.Base.Interop.Uring;
using Microsoft.Extensions.ObjectPool;

namespace BlockMount.Storage;

/// <summary>
/// A plain read or write on its way through <see cref="UringEngine"/>, in as many pieces as the kernel makes of it. Pooled: rented, filled once, and back
/// in the pool when its waiter has taken the result. Between <see cref="Rent"/> and <see cref="Finish"/> it belongs to the engine.
/// </summary>
internal sealed unsafe class RingRequest : PooledCompletion
{
    private static readonly ObjectPool<RingRequest> s_pool = new DefaultObjectPool<RingRequest>(new Policy(), 1024);

    // Set by Rent, cleared by Finish.
    private ITransferTarget? _target;
    private RequestGate? _gate;
    private MemoryHandle _pin;
    private long _offset;
    private int _length;
    private bool _isWrite;

    private int _done;
    // The kernel could not do it without waiting and is told to have one of its own threads wait.
    private bool _mayBlock;
    private BlockIOException? _failure;

    /// <summary>The link of the engine's queue; guarded by the queue's gate.</summary>
    internal RingRequest? Next { get; set; }

    /// <summary>
    /// A request for a transfer that the target calls plain. Whoever gets it hands it to the engine, having taken its Task before.
    /// </summary>
    internal static RingRequest Rent(ITransferTarget target, RequestGate gate, long offset, ReadOnlyMemory<byte> buffer, bool isWrite)
    {
        RingRequest request = s_pool.Get();
        request._target = target;
        request._gate = gate;
        request._pin = buffer.Pin();
        request._offset = offset;
        request._length = buffer.Length;
        request._isWrite = isWrite;
        return request;
    }

    /// <summary>Describes what is left to the kernel.</summary>
    internal void Describe(io_uring_sqe* entry)
    {
        Debug.Assert(_done < _length);
        entry->opcode = _isWrite ? IoUringConstants.IORING_OP_WRITE : IoUringConstants.IORING_OP_READ;
        entry->flags = _mayBlock ? IoUringConstants.IOSQE_ASYNC : (byte)0;
        entry->fd = _target!.Descriptor;
        entry->off = (ulong)(_offset + _done);
        entry->addr = (ulong)((byte*)_pin.Pointer + _done);
        entry->len = (uint)(_length - _done);
    }

    /// <summary>Takes the kernel's answer: bytes, or a negative errno.</summary>
    /// <returns>True if the rest must be asked for again, false if the request has ended.</returns>
    internal bool Advance(int result)
    {
        if (result < 0)
        {
            return RetryAfter((Errno)(-result));
        }

        _done += result;
        if (_done == _length)
        {
            return false;
        }

        if (_isWrite)
        {
            // A write that writes nothing would go on for ever.
            _failure = result == 0 ? Failure(Errno.EIO) : null;
            return result != 0;
        }

        if (result == 0 || !Alignment.IsAligned(_done, _target!.ReadUnit))
        {
            new Span<byte>((byte*)_pin.Pointer + _done, _length - _done).Clear();
            return false;
        }

        return true;
    }

    /// <summary>Ends the request after <see cref="Advance"/> returned false; the waiter goes on. The request must not be touched afterwards.</summary>
    internal void Finish()
    {
        Exception? failure = _failure;
        if (_isWrite && failure is null)
        {
            try
            {
                _target!.EndPlainWrite(_offset + _length);
            }
            catch (BlockIOException error)
            {
                // Not swallowed: it is thrown to the waiter.
                failure = error;
            }
        }

        RequestGate gate = _gate!;
        _pin.Dispose();
        _pin = default;
        _target = null;
        _gate = null;
        _done = 0;
        _mayBlock = false;
        _failure = null;

        // Before the waiter hears of it: whoever has awaited everything may dispose of the file at once.
        gate.Exit();
        if (failure is null)
        {
            Complete();
        }
        else
        {
            Fail(failure);
        }
    }

    /// <inheritdoc/>
    protected override void OnConsumed()
    {
        Reset();
        s_pool.Return(this);
    }

    // As pread and pwrite: a signal means again, everything else is an error. EAGAIN is none of theirs for files: it says that the kernel
    // did not find a way to wait without a thread, so it gets one, once.
    private bool RetryAfter(Errno errno)
    {
        if (errno == Errno.EINTR)
        {
            return true;
        }

        if (errno == Errno.EAGAIN && !_mayBlock)
        {
            _mayBlock = true;
            return true;
        }

        _failure = Failure(errno);
        return false;
    }

    private BlockIOException Failure(Errno errno) => _target!.PlainFailure(errno, _isWrite, _offset + _done, _length - _done);

    private sealed class Policy : IPooledObjectPolicy<RingRequest>
    {
        public RingRequest Create() => new();

        public bool Return(RingRequest request) => true;
    }
}
