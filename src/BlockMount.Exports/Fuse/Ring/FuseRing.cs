using System.Diagnostics;
using BlockMount.Base;
using BlockMount.Base.Async;
using BlockMount.Base.Interop;
using BlockMount.Base.Interop.Uring;
using BlockMount.Exports.Fuse.Abi;

namespace BlockMount.Exports.Fuse.Ring;

/// <summary>
/// A thread with an io_uring over which the kernel hands it the requests of one processor (FUSE over io_uring, Linux 6.14). Each entry of the
/// ring is a request with memory of its own: the kernel fills it, the thread serves it, and the reply asks for the next one in the same system call. What the
/// device makes wait, and large transfers while others wait, are served elsewhere, and come back through <see cref="FinishedRequests"/>.
/// </summary>
internal sealed unsafe class FuseRing : IFuseServer, IFuseReplier, IDisposable
{
    private const ulong WakeTag = ulong.MaxValue;

    // Replies that are collected at most before the kernel gets them, so that the clients go on meanwhile.
    private const uint ReplyBatch = 8;

    private const string WithoutRings = "use '-o transport=dev'";

    // Smaller transfers cost less than handing them to another thread.
    private const int OffloadBytesMin = 64 << 10;

    // Fixed after construction.
    private readonly int _device;
    private readonly FuseDispatcher _dispatcher;
    private readonly Action<Exception?> _ended;
    private readonly Thread _thread;
    private readonly FuseRequest[] _entries;
    private readonly FinishedRequests _finished = new();
    private readonly FusePoller _poller;
    private readonly AdaptivePolling _polling = new();
    private readonly TaskCompletionSource _registered = new(TaskCreationOptions.RunContinuationsAsynchronously);

    // The ring's thread alone.
    private IoUring _ring = null!;
    private ulong* _wakeCounter;
    private int _live;
    private int _elsewhere;
    private Exception? _failure;

    private volatile bool _stopping;

    /// <param name="poller">Shared by the rings of a mount.</param>
    /// <param name="guard">Shared by the rings of a mount.</param>
    /// <param name="device">A descriptor of the mounted /dev/fuse, which outlives the ring.</param>
    /// <param name="processor">The processor whose requests it gets.</param>
    /// <param name="queues">Numbers of the kernel's queues to serve: that of the processor, and of some that are offline.</param>
    /// <param name="depth">Entries for each queue.</param>
    /// <param name="ended">Called once, on the ring's thread, when it has ended, with the reason if that was a failure.</param>
    internal FuseRing(int device, int processor, IReadOnlyList<int> queues, int depth, FuseDispatcher dispatcher, FusePoller poller, RingGuard guard, Action<Exception?> ended)
    {
        _device = device;
        _poller = poller;
        _dispatcher = dispatcher;
        _ended = ended;
        Placement = new RingPlacement(processor, guard);
        _entries = new FuseRequest[queues.Count * depth];
        for (int i = 0; i < _entries.Length; i++)
        {
            _entries[i] = FuseRequest.ForRing();
            _entries[i].RingPlace = (i, (ushort)queues[i / depth]);
        }

        _thread = new Thread(Run) { IsBackground = true, Name = $"fuse-ring-{processor}" };
    }

    /// <summary>Completes when the kernel has taken the entries, or fails with the reason why not.</summary>
    internal Task Registered => _registered.Task;

    /// <summary>Where its thread runs.</summary>
    internal RingPlacement Placement { get; }

    /// <summary>A kernel's ring that the transport needs, for a look whether there can be one; null if not.</summary>
    internal static IoUring? TryCreate(int entries, out Errno errno)
    {
        const uint needed = IoUringConstants.IORING_SETUP_SQE128 | IoUringConstants.IORING_SETUP_SUBMIT_ALL;
        const uint wanted = IoUringConstants.IORING_SETUP_SINGLE_ISSUER | IoUringConstants.IORING_SETUP_DEFER_TASKRUN;
        return IoUring.TryCreate((uint)entries, needed | wanted, out errno) ?? IoUring.TryCreate((uint)entries, needed, out errno);
    }

    /// <inheritdoc/>
    public void Start() => _thread.Start();

    /// <inheritdoc/>
    public void Stop()
    {
        _stopping = true;
        _finished.Wake();
    }

    /// <inheritdoc/>
    public void FinishSuspended(FuseRequest request, int replyLength) => _finished.Add(request);

    /// <inheritdoc/>
    public void ServeOffloaded(FuseRequest request)
    {
        ValueTask<int> reply = _dispatcher.ServeAsync(request);
        if (reply.IsCompleted)
        {
            FinishSuspended(request, reply.GetAwaiter().GetResult());
        }
        else
        {
            request.Suspend(reply, this);
        }
    }

    /// <summary>Closes the ring and frees the requests' memory. The ring's thread does it when it ends.</summary>
    public void Dispose()
    {
        _ring?.Dispose();
        _finished.Dispose();
        foreach (FuseRequest entry in _entries)
        {
            entry.Dispose();
        }
    }

    private void Run()
    {
        Placement.Attach();
        // Lives as long as the thread serves: the kernel writes to it.
        ulong counter = 0;
        _wakeCounter = &counter;
        try
        {
            Register();
            Serve();
        }
        catch (BlockIOException failure)
        {
            _failure = failure;
        }

        End();
    }

    private void Register()
    {
        try
        {
            _ring = TryCreate(_entries.Length + 1, out Errno errno) ?? throw new BlockIOException(errno, "io_uring_setup for FUSE", WithoutRings);
            foreach (FuseRequest entry in _entries)
            {
                PrepareRegister(entry);
            }

            ArmWake();
            _live = _entries.Length;
            CheckEnter(_ring.Submit(waitFor: 0));
            // An entry that is refused completes at once. So can one that brings a request: somebody has waited for the mount.
            TakeCompletions();
            if (_failure is not null || _live < _entries.Length)
            {
                Errno refusal = (_failure as BlockIOException)?.Errno ?? Errno.ENOTCONN;
                throw new BlockIOException(refusal, "registration of an io_uring for FUSE", WithoutRings);
            }
        }
        catch (BlockIOException failure)
        {
            _registered.SetException(failure);
            throw;
        }

        _registered.SetResult();
    }

    private void Serve()
    {
        while (_live > 0 && !(_stopping && _elsewhere == 0))
        {
            Wait();
            Placement.Observe(TakeCompletions());
        }

        // The replies to what was taken last.
        CheckEnter(_ring.Submit(waitFor: 0));
    }

    // Serves what has arrived; how many completions that were.
    private int TakeCompletions()
    {
        int taken = 0;
        while (_ring.TryReap(out io_uring_cqe completion))
        {
            Take(completion);
            taken++;
            if (_ring.Unsubmitted >= ReplyBatch)
            {
                CheckEnter(_ring.Submit(waitFor: 0));
            }
        }

        return taken;
    }

    // Hands the replies over and returns when there is something to do, or when a signal came.
    private void Wait()
    {
        if (Placement.IsConfined || !_polling.ShouldPoll() || !_poller.TryBegin())
        {
            CheckEnter(_ring.Submit(waitFor: 1));
            return;
        }

        try
        {
            long deadline = AdaptivePolling.Deadline();
            do
            {
                CheckEnter(_ring.Submit(waitFor: 0));
            }
            while (_ring.Completed == 0 && Stopwatch.GetTimestamp() < deadline);
        }
        finally
        {
            _poller.End();
        }

        if (_ring.Completed > 0)
        {
            _polling.Succeeded();
        }
        else
        {
            _polling.Failed();
            CheckEnter(_ring.Submit(waitFor: 1));
        }
    }

    private void Take(in io_uring_cqe completion)
    {
        if (completion.user_data == WakeTag)
        {
            TakeFinished();
            ArmWake();
        }
        else if (completion.res < 0)
        {
            EntryEnded((Errno)(-completion.res));
        }
        else
        {
            Handle(_entries[(int)completion.user_data]);
        }
    }

    private void Handle(FuseRequest request)
    {
        if (!request.TryParseRing())
        {
            _ = _dispatcher.Refuse(request);
            Reply(request);
            return;
        }

        if ((_ring.Completed > 0 || _elsewhere > 0) && request.TransferLength >= OffloadBytesMin)
        {
            _elsewhere++;
            request.Offload(this);
            return;
        }

        ValueTask<int> reply = _dispatcher.ServeAsync(request);
        if (reply.IsCompleted)
        {
            _ = reply.GetAwaiter().GetResult();
            Reply(request);
        }
        else
        {
            _elsewhere++;
            request.Suspend(reply, this);
        }
    }

    private void TakeFinished()
    {
        FuseRequest? request = _finished.TakeAll();
        while (request is not null)
        {
            FuseRequest? next = request.Next;
            request.Next = null;
            _elsewhere--;
            Reply(request);
            request = next;
        }
    }

    // ENOTCONN: unmounted. ECANCELED: the ring is being closed.
    private void EntryEnded(Errno errno)
    {
        const Errno ECANCELED = (Errno)125;
        _live--;
        if (errno is not (Errno.ENOTCONN or ECANCELED))
        {
            _failure ??= new BlockIOException(errno, "reply over an io_uring for FUSE");
        }
    }

    private void Reply(FuseRequest request)
    {
        fuse_uring_req_header* header = (fuse_uring_req_header*)request.RingHeader;
        header->ring_ent_in_out.payload_sz = (uint)request.ReplyBodyLength;
        io_uring_sqe* entry = PrepareCommand(request, FuseUringCommand.FUSE_IO_URING_CMD_COMMIT_AND_FETCH);
        ((fuse_uring_cmd_req*)&entry->cmd)->commit_id = header->ring_ent_in_out.commit_id;
    }

    private void PrepareRegister(FuseRequest request)
    {
        io_uring_sqe* entry = PrepareCommand(request, FuseUringCommand.FUSE_IO_URING_CMD_REGISTER);
        // The kernel reads the two vectors while it takes the entry; they lie in a part of the header's page that it does not use.
        IoVec* areas = (IoVec*)(request.RingHeader + 1024);
        areas[0] = new IoVec { Base = request.RingHeader, Length = (nuint)sizeof(fuse_uring_req_header) };
        areas[1] = new IoVec { Base = request.RingPayload, Length = FuseRequest.PayloadMax };
        entry->addr = (ulong)areas;
        entry->len = 2;
    }

    private io_uring_sqe* PrepareCommand(FuseRequest request, uint command)
    {
        io_uring_sqe* entry = NextEntry();
        (int index, ushort queue) = request.RingPlace;
        entry->opcode = IoUringConstants.IORING_OP_URING_CMD;
        entry->fd = _device;
        entry->cmd_op = command;
        entry->user_data = (ulong)index;
        ((fuse_uring_cmd_req*)&entry->cmd)->qid = queue;
        return entry;
    }

    private void ArmWake()
    {
        io_uring_sqe* entry = NextEntry();
        entry->opcode = IoUringConstants.IORING_OP_READ;
        entry->fd = _finished.Descriptor;
        entry->addr = (ulong)_wakeCounter;
        entry->len = sizeof(ulong);
        entry->user_data = WakeTag;
    }

    private io_uring_sqe* NextEntry()
    {
        io_uring_sqe* entry = _ring.TryGetEntry();
        // Each request has at most one entry at a time, and so has the wake-up.
        Debug.Assert(entry != null);
        return entry;
    }

    // EINTR: a signal. EAGAIN and EBUSY: reap first.
    private static void CheckEnter(Errno errno)
    {
        if (errno is not (Errno.None or Errno.EINTR or Errno.EAGAIN or Errno.EBUSY))
        {
            throw new BlockIOException(errno, "io_uring_enter for FUSE");
        }
    }

    private void End()
    {
        Placement.Detach();
        // Only after a failure: somebody may still write to the requests' memory. The ring, which would bring the wake-up, is of no use any more, so this
        // looks now and then.
        while (_elsewhere > 0)
        {
            for (FuseRequest? request = _finished.TakeAll(); request is not null; request = request.Next)
            {
                _elsewhere--;
            }

            Thread.Sleep(1);
        }

        Dispose();
        _ended(_failure);
    }
}
