using System.Runtime.CompilerServices;
using BlockMount.Block.Devices;
using BlockMount.Exports.Nbd.Wire;
using Microsoft.Extensions.Logging;
using static BlockMount.Exports.Nbd.Wire.NbdConstants;

namespace BlockMount.Exports.Nbd;

/// <summary>
/// The transmission phase of one client. Its thread receives many requests at once, carries them out in place when the device
/// answers at once, and sends their replies together before it waits again. What does not complete at once goes on as an
/// <see cref="NbdRequest"/>.
/// </summary>
internal sealed class NbdTransmission : IDisposable
{
    /// <summary>Requests that may be unfinished while more are received.</summary>
    public const int InFlightMax = 16;

    // Memory for unfinished requests is bounded: a slot stands for so much, and a larger request takes several.
    private const int BytesPerSlot = 4 << 20;

    // Payloads of refused writes up to this are skipped; a longer one is more likely garbage than a request.
    private const uint SkippedBytesMax = 2 * (uint)NbdExport.RequestBytesMax;

    private readonly NbdExport _export;
    private readonly NbdRequestCheck _check;
    private readonly ILogger _logger;
    private readonly NbdInput _input;
    private readonly NbdReplyBatch _replies;

    // Not disposed: the request that released the last slot may still be inside Release, and it holds no handle.
    private readonly SemaphoreSlim _slots = new(InFlightMax);

    private readonly Lock _poolGate = new();

    // Guarded by _poolGate.
    private readonly Stack<NbdRequest> _pool = new();

    private volatile bool _stopping;

    public NbdTransmission(INbdTransport transport, NbdSession session, ILogger logger)
    {
        _export = session.Export;
        _check = new NbdRequestCheck(session);
        _logger = logger;
        Structured = session.StructuredReplies;
        Device = _export.Device;
        // A format with clusters of its own knows its zeros; asking the file system costs a system call and may be slow.
        StatusIsCheap = Device.Root.ClusterSize > 1;
        Sender = new NbdSender(transport);
        _input = new NbdInput(transport);
        _replies = new NbdReplyBatch(Sender, Structured);
    }

    internal BlockDevice Device { get; }

    internal bool Structured { get; }

    internal bool StatusIsCheap { get; }

    internal NbdSender Sender { get; }

    /// <summary>Serves until the client disconnects, breaks the protocol or <see cref="Stop"/>; then waits for requests in flight.</summary>
    /// <exception cref="NbdProtocolException">The client broke the protocol.</exception>
    public void Run()
    {
        try
        {
            while (!_stopping && !Sender.Broken && ReceiveRequest())
            {
            }

            _replies.Flush();
        }
        finally
        {
            for (int i = 0; i < InFlightMax; i++)
            {
                _slots.Wait();
            }
        }
    }

    /// <summary>Takes no more requests; the caller also makes the receive return. Any thread.</summary>
    public void Stop() => _stopping = true;

    /// <summary>Frees memory after <see cref="Run"/>.</summary>
    public void Dispose()
    {
        _input.Dispose();
        _replies.Dispose();
        Sender.Dispose();
    }

    /// <summary>A request that went on by itself has its reply: sends it. Any thread.</summary>
    internal void Complete(NbdRequest request) => Sender.Complete(request);

    /// <summary>The reply is sent: the object is free again. Any thread.</summary>
    internal void End(NbdRequest request)
    {
        int slotCount = request.SlotCount;
        request.Reset();
        lock (_poolGate)
        {
            _pool.Push(request);
        }

        // The last touch: the connection may be gone right after it.
        _slots.Release(slotCount);
    }

    /// <summary>Logs a failed device operation and returns what the client is told.</summary>
    internal uint ReportFailure(in NbdRequestHeader request, Exception error, out string message)
    {
        string command = NbdErrors.CommandName(request.Type);
        NbdLog.RequestFailed(_logger, _export.Name, command, request.Offset, request.Length, error);
        // Host paths stay in the log.
        message = $"{command} of {request.Length} bytes at {request.Offset} failed";
        return NbdErrors.FromException(error);
    }

    // Waits for one whole request header, then handles the request. False when the client is done.
    private bool ReceiveRequest()
    {
        while (_input.Available < NbdRequestHeader.Size)
        {
            // Nothing left to do here: everything that is ready goes out before this thread waits.
            _replies.Flush();
            if (!_input.Receive(NbdRequestHeader.Size))
            {
                return false;
            }
        }

        if (!NbdRequestHeader.TryRead(_input.Peek(NbdRequestHeader.Size).Span, out NbdRequestHeader request))
        {
            throw new NbdProtocolException("a request does not start with NBD_REQUEST_MAGIC");
        }

        _input.Consume(NbdRequestHeader.Size);
        if (request.Type == NBD_CMD_DISC)
        {
            return false;
        }

        uint error = _check.Validate(request, out string reason);
        return error == 0 ? Handle(request) : Refuse(request, error, reason);
    }

    private bool Refuse(in NbdRequestHeader request, uint error, string reason)
    {
        NbdLog.RequestRefused(_logger, _export.Name, NbdErrors.CommandName(request.Type), request.Offset, request.Length, reason);
        if (request.Type == NBD_CMD_WRITE)
        {
            if (request.Length > SkippedBytesMax)
            {
                throw new NbdProtocolException($"a write of {request.Length} bytes");
            }

            if (!_input.Skip(request.Length))
            {
                return false;
            }
        }

        _replies.AddError(request.Cookie, error, reason);
        return true;
    }

    private bool Handle(in NbdRequestHeader request)
    {
        if (request.Type == NBD_CMD_READ && request.Length <= NbdReplyBatch.ReadBytesMax)
        {
            ReadShort(request);
            return true;
        }

        if (request.Type == NBD_CMD_WRITE)
        {
            return request.Length <= NbdInput.Capacity / 2 ? WriteShort(request) : WriteLong(request);
        }

        NbdRequest pending = Rent(request);
        if (request.Type == NBD_CMD_READ)
        {
            // It sends by itself: what was ready before goes first.
            _replies.Flush();
        }

        Execute(pending, pending.RunAsync());
        return true;
    }

    private void ReadShort(in NbdRequestHeader request)
    {
        if (request.Length == 0)
        {
            _replies.AddSuccess(request);
            return;
        }

        Memory<byte> data = _replies.ReserveRead(request);
        ValueTaskAwaiter read = Begin(Device.ReadAsync((long)request.Offset, data));
        if (!read.IsCompleted)
        {
            NbdRequest pending = Rent(request);
            _replies.DetachRead(pending);
            pending.Continue(read);
        }
        else if (Succeeded(request, read))
        {
            _replies.CommitRead();
        }
    }

    // The device takes the payload from the input buffer.
    private bool WriteShort(in NbdRequestHeader request)
    {
        int length = (int)request.Length;
        while (_input.Available < length)
        {
            _replies.Flush();
            if (!_input.Receive(length))
            {
                return false;
            }
        }

        bool fua = (request.Flags & NBD_CMD_FLAG_FUA) != 0;
        ValueTaskAwaiter write = Begin(Device.WriteAsync((long)request.Offset, _input.Peek(length), fua));
        _input.Consume(length);
        if (!write.IsCompleted)
        {
            NbdRequest pending = Rent(request);
            pending.Hold(_input.Buffer);
            pending.Continue(write);
        }
        else if (Succeeded(request, write))
        {
            _replies.AddSuccess(request);
        }

        return true;
    }

    private bool WriteLong(in NbdRequestHeader request)
    {
        NbdRequest pending = Rent(request);
        _replies.Flush();
        if (!_input.ReceiveInto(pending.RentPayload().Span))
        {
            End(pending);
            return false;
        }

        Execute(pending, pending.RunAsync());
        return true;
    }

    private void Execute(NbdRequest request, ValueTask operation)
    {
        ValueTaskAwaiter awaiter = Begin(operation);
        if (!awaiter.IsCompleted)
        {
            request.Continue(awaiter);
            return;
        }

        request.Finish(awaiter);
        _replies.Add(request.Reply.Span);
        End(request);
    }

    // An awaiter is consumed once, as the ValueTask it stands for: here, or by the NbdRequest that it is handed to.
    private static ValueTaskAwaiter Begin(ValueTask operation) => operation.GetAwaiter();

    // Takes the outcome of an operation that completed at once; a failure is answered.
    private bool Succeeded(in NbdRequestHeader request, ValueTaskAwaiter completed)
    {
        try
        {
            completed.GetResult();
            return true;
        }
        catch (Exception error)
        {
            uint value = ReportFailure(request, error, out string message);
            _replies.AddError(request.Cookie, value, message);
            return false;
        }
    }

    // Takes its slots, waiting for requests in flight if there are too many. Only this thread takes slots.
    private NbdRequest Rent(in NbdRequestHeader header)
    {
        bool hasBuffer = header.Type is NBD_CMD_READ or NBD_CMD_WRITE;
        int slotCount = hasBuffer ? Math.Max(1, (int)(header.Length / BytesPerSlot)) : 1;
        for (int i = 0; i < slotCount; i++)
        {
            if (!_slots.Wait(0))
            {
                _replies.Flush();
                _slots.Wait();
            }
        }

        NbdRequest? request;
        lock (_poolGate)
        {
            _pool.TryPop(out request);
        }

        request ??= new NbdRequest(this);
        request.Init(header, slotCount);
        return request;
    }
}
