using System.Diagnostics;
using BlockMount.Base;
using BlockMount.Base.Async;
using BlockMount.Base.Interop.Uring;

namespace BlockMount.Storage;

/// <summary>
/// Plain transfers of all files through one io_uring, by one thread that hands them to the kernel and takes the completions, many at a time when there
/// are many. Others (bounced, growing) go to <see cref="IoThreads"/>. More requests than the ring holds wait in a queue, first in, first out.
/// <para>What awaits a request runs on the .NET thread pool, as with <see cref="IoThreads"/>: it may block, and everybody's I/O would stand still.</para>
/// <para>Threading: requests from any thread. 0 bytes are allocated per request.</para>
/// </summary>
internal sealed unsafe class UringEngine : ITransferEngine, IDisposable
{
    private const ulong WakeTag = ulong.MaxValue;
    private const int StackBytes = 256 * 1024;

    // Fixed after construction.
    private readonly RingQueue _queue = new();
    private readonly Thread _thread;
    private readonly TaskCompletionSource<Errno> _started = new(TaskCreationOptions.RunContinuationsAsynchronously);

    // The engine's thread alone: what the kernel has, by its place, and the places that are free.
    private readonly RingRequest?[] _underWay;
    private readonly Stack<int> _free;
    private IoUring _ring = null!;
    private ulong* _wakeCounter;
    private bool _isWakeArmed;

    private UringEngine(int depth)
    {
        _underWay = new RingRequest?[depth];
        _free = new Stack<int>(Enumerable.Range(0, depth).Reverse());
        _thread = new Thread(Run, StackBytes) { IsBackground = true, Name = "blockmount-uring" };
    }

    /// <summary>Starts an engine that has up to <paramref name="depth"/> requests under way at a time.</summary>
    /// <param name="errno">Why there is none: ENOSYS or EPERM where io_uring is missing or switched off.</param>
    public static UringEngine? TryStart(int depth, out Errno errno)
    {
        UringEngine engine;
        try
        {
            engine = new(depth);
        }
        catch (BlockIOException noDescriptor)
        {
            errno = noDescriptor.Errno;
            return null;
        }

        engine._thread.Start();
        errno = engine._started.Task.GetAwaiter().GetResult();
        return errno == Errno.None ? engine : null;
    }

    /// <inheritdoc/>
    public ValueTask StartRead(ITransferTarget target, RequestGate gate, long offset, Memory<byte> buffer) =>
        target.IsPlainRead(offset, buffer.Span)
            ? Start(RingRequest.Rent(target, gate, offset, buffer, isWrite: false))
            : TransferRequest.StartRead(target, gate, offset, buffer);

    /// <inheritdoc/>
    public ValueTask StartWrite(ITransferTarget target, RequestGate gate, long offset, ReadOnlyMemory<byte> buffer) =>
        target.IsPlainWrite(offset, buffer.Span)
            ? Start(RingRequest.Rent(target, gate, offset, buffer, isWrite: true))
            : TransferRequest.StartWrite(target, gate, offset, buffer);

    /// <summary>Ends the thread when every request has ended. No request may be started any more. The process's own engine lives as long as it.</summary>
    public void Dispose()
    {
        _queue.Close();
        _thread.Join();
    }

    private ValueTask Start(RingRequest request)
    {
        // Taken before the request is queued: afterwards it belongs to the engine and then to the waiter.
        ValueTask completion = request.Task;
        _queue.Add(request);
        return completion;
    }

    private void Run()
    {
        // Lives as long as the thread: the kernel writes to it.
        ulong counter = 0;
        _wakeCounter = &counter;
        Errno errno = Open();
        _started.SetResult(errno);
        if (errno == Errno.None)
        {
            Serve();
        }

        _ring?.Dispose();
        _queue.Dispose();
    }

    // The ring, and one request through it: a kernel that is too old, or a filter of system calls, shows here and not under a guest's write.
    private Errno Open()
    {
        const uint wanted = IoUringConstants.IORING_SETUP_SUBMIT_ALL | IoUringConstants.IORING_SETUP_SINGLE_ISSUER | IoUringConstants.IORING_SETUP_DEFER_TASKRUN;
        uint entries = (uint)_underWay.Length + 1;
        IoUring? ring = IoUring.TryCreate(entries, wanted, out Errno errno);
        if (ring is null && errno == Errno.EINVAL)
        {
            ring = IoUring.TryCreate(entries, 0, out errno);
        }

        if (ring is null)
        {
            return errno;
        }

        _ring = ring;
        ArmWake();
        _queue.Wake();
        io_uring_cqe first = default;
        while (!_ring.TryReap(out first))
        {
            errno = _ring.Submit(waitFor: 1);
            if (errno is not (Errno.None or Errno.EINTR))
            {
                return errno;
            }
        }

        return first.res == sizeof(ulong) ? Rearmed() : (Errno)Math.Max(-first.res, (int)Errno.EIO);
    }

    private Errno Rearmed()
    {
        ArmWake();
        return Errno.None;
    }

    private void Serve()
    {
        while (HandOver())
        {
            Enter();
            _queue.Awake();
            while (_ring.TryReap(out io_uring_cqe completion))
            {
                Take(completion);
            }
        }
    }

    // Fills entries while there are requests and places. False when the engine is closed and idle.
    private bool HandOver()
    {
        while (_free.Count > 0)
        {
            RingRequest? request = _queue.Take(mayWait: _free.Count == _underWay.Length);
            if (request is null)
            {
                // Not before the last wake-up has arrived: the kernel would write it to where this thread's stack was.
                return _isWakeArmed || _free.Count < _underWay.Length;
            }

            int place = _free.Pop();
            _underWay[place] = request;
            Fill(place, request);
        }

        return true;
    }

    private void Fill(int place, RingRequest request)
    {
        io_uring_sqe* entry = NextEntry();
        request.Describe(entry);
        entry->user_data = (ulong)place;
    }

    // Submits and waits until there is something to do.
    private void Enter()
    {
        Errno errno = _ring.Submit(waitFor: 1);
        if (errno is Errno.None or Errno.EINTR)
        {
            return;
        }

        if (errno is not (Errno.EAGAIN or Errno.EBUSY or Errno.ENOMEM))
        {
            // Buffers are with the kernel and nobody will hear of them again. Dead is safer than silent: a crash is what images are made for.
            Environment.FailFast($"io_uring_enter: {errno}");
        }

        if (_ring.Completed == 0)
        {
            // Short of memory with nothing to take back first.
            Thread.Sleep(1);
        }
    }

    private void Take(in io_uring_cqe completion)
    {
        if (completion.user_data == WakeTag)
        {
            _isWakeArmed = false;
            if (!_queue.IsClosed)
            {
                ArmWake();
            }

            return;
        }

        int place = (int)completion.user_data;
        RingRequest request = _underWay[place]!;
        if (request.Advance(completion.res))
        {
            Fill(place, request);
            return;
        }

        _underWay[place] = null;
        _free.Push(place);
        request.Finish();
    }

    private void ArmWake()
    {
        io_uring_sqe* entry = NextEntry();
        entry->opcode = IoUringConstants.IORING_OP_READ;
        entry->fd = _queue.WakeDescriptor;
        entry->addr = (ulong)_wakeCounter;
        entry->len = sizeof(ulong);
        entry->user_data = WakeTag;
        _isWakeArmed = true;
    }

    private io_uring_sqe* NextEntry()
    {
        io_uring_sqe* entry = _ring.TryGetEntry();
        // One for each place and one for the wake-up are there.
        Debug.Assert(entry != null);
        return entry;
    }
}
