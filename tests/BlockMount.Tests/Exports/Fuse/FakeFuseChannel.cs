using System.Collections.Concurrent;
using BlockMount.Exports.Fuse;

namespace BlockMount.Tests.Exports.Fuse;

/// <summary>A kernel in memory: frames are queued by the test, replies are collected. Ends by <see cref="Unmount"/>.</summary>
internal sealed unsafe class FakeFuseChannel : FuseChannel
{
    private readonly BlockingCollection<byte[]> _incoming = [];
    private readonly BlockingCollection<byte[]> _replies = [];

    /// <summary>Was closed.</summary>
    internal bool Closed { get; private set; }

    internal void Request(byte[] frame) => _incoming.Add(frame);

    internal void Unmount() => _incoming.CompleteAdding();

    /// <summary>The next reply; fails the test when none comes.</summary>
    internal byte[] TakeReply() =>
        _replies.TryTake(out byte[]? reply, TimeSpan.FromSeconds(20)) ? reply : throw new TimeoutException("no reply was sent");

    /// <summary>Replies that nobody has taken.</summary>
    internal int PendingReplies => _replies.Count;

    internal override int Receive(FuseRequest request)
    {
        // Not waiting for ever stands for the signal that cuts a read from /dev/fuse short.
        if (!_incoming.TryTake(out byte[]? frame, millisecondsTimeout: 20))
        {
            return _incoming.IsCompleted ? Unmounted : Interrupted;
        }

        frame.CopyTo(new Span<byte>(request.Frame, FuseRequest.FrameCapacity));
        return frame.Length;
    }

    internal override void Send(FuseRequest request, int length) => _replies.Add(new Span<byte>(request.ReplyFrame, length).ToArray());

    public override void Dispose() => Closed = true;
}
