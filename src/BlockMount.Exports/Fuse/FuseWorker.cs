using System.Diagnostics;
using BlockMount.Base;
using BlockMount.Base.Interop;
using Microsoft.Extensions.ObjectPool;

namespace BlockMount.Exports.Fuse;

/// <summary>
/// A thread with a channel of its own: receives a request, serves it to completion, sends the reply. If the device makes a request
/// wait, the worker goes on with a fresh one, and the reply is sent by whoever completes the waiting request. Owns its channel, which
/// stays open until the thread has ended and no request that came through it waits any more.
/// </summary>
internal sealed class FuseWorker : IFuseReplier, IFuseServer
{
    // Fixed.
    private readonly FuseChannel _channel;
    private readonly FuseDispatcher _dispatcher;
    private readonly ObjectPool<FuseRequest> _requests;
    private readonly Action<Exception?> _ended;
    private readonly Thread _thread;

    // The thread's own.
    private readonly ServingClass _class = new();

    // The thread itself and its waiting requests; whoever brings it to 0 closes the channel. Interlocked.
    private int _users = 1;

    // Why the thread gave up; written before its last use of _users.
    private Exception? _failure;

    private volatile bool _stopping;

    // Kernel id of the thread while it runs; 0 before and after.
    private volatile int _threadId;

    /// <summary>Takes over <paramref name="channel"/>.</summary>
    /// <param name="ended">Called once, when the channel is closed, with the reason if that was a failure.</param>
    internal FuseWorker(
        string name,
        FuseChannel channel,
        FuseDispatcher dispatcher,
        ObjectPool<FuseRequest> requests,
        Action<Exception?> ended)
    {
        _channel = channel;
        _dispatcher = dispatcher;
        _requests = requests;
        _ended = ended;
        _thread = new Thread(Run) { IsBackground = true, Name = name };
    }

    /// <inheritdoc/>
    public void Start() => _thread.Start();

    /// <inheritdoc/>
    public void Stop()
    {
        _stopping = true;
        if (_threadId is int id and not 0)
        {
            LibcThread.Interrupt(id);
        }
    }

    /// <inheritdoc/>
    public void FinishSuspended(FuseRequest request, int replyLength)
    {
        try
        {
            SendReply(request, replyLength);
        }
        catch (BlockIOException failure)
        {
            _failure ??= failure;
            _stopping = true;
        }

        _requests.Return(request);
        Leave();
    }

    /// <inheritdoc/>
    public void ServeOffloaded(FuseRequest request) => throw new UnreachableException("a worker serves its requests itself");

    private void Run()
    {
        _threadId = LibcThread.gettid();
        // The kernel wakes a worker for each request, also when another one is about to take it: in the normal class it would preempt the
        // very thread that submits the next request, or the worker that serves.
        _class.Begin();
        try
        {
            Serve();
        }
        catch (BlockIOException failure)
        {
            _failure = failure;
        }

        _threadId = 0;
        Leave();
    }

    private void Serve()
    {
        FuseRequest request = _requests.Get();
        while (!_stopping)
        {
            int length = _channel.Receive(request);
            if (length == FuseChannel.Unmounted)
            {
                break;
            }

            if (length == FuseChannel.Interrupted)
            {
                continue;
            }

            ValueTask<int> reply = _dispatcher.HandleAsync(request, length);
            if (reply.IsCompleted)
            {
                SendReply(request, reply.GetAwaiter().GetResult());
            }
            else
            {
                Interlocked.Increment(ref _users);
                request.Suspend(reply, this);
                request = _requests.Get();
            }

            _class.Served();
        }

        _requests.Return(request);
    }

    private void SendReply(FuseRequest request, int length)
    {
        if (length != FuseDispatcher.NoReply)
        {
            _channel.Send(request, length);
        }
    }

    private void Leave()
    {
        if (Interlocked.Decrement(ref _users) == 0)
        {
            _channel.Dispose();
            _ended(_failure);
        }
    }
}
