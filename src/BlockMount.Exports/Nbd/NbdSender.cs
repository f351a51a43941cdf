using System.Diagnostics;
using BlockMount.Base.Async;
using BlockMount.Base.Buffers;

namespace BlockMount.Exports.Nbd;

/// <summary>
/// The sending side of a connection. The connection's thread sends its batches with <see cref="Send"/>; requests that finished
/// elsewhere go to <see cref="Complete"/>, where the first one to come sends for all that arrive meanwhile. So at most two
/// foreign threads wait for a slow client: that one, and one that sends a part of a large read.
/// </summary>
internal sealed class NbdSender : IDisposable
{
    private const int GatherBytes = 64 << 10;

    private readonly INbdTransport _transport;

    // Held while bytes go out, so that replies do not mix. Never taken by the holder of _gate.
    private readonly Lock _sendLock = new();

    // Held by the one request that sends a part of its reply; the others wait without a thread.
    private readonly AsyncMutex _parts = new();

    private readonly Lock _gate = new();

    // Guarded by _gate.
    private List<NbdRequest> _ready = [];
    private bool _draining;

    // Used by the one that set _draining.
    private List<NbdRequest> _batch = [];
    private AlignedBuffer? _gather;

    private volatile bool _broken;

    public NbdSender(INbdTransport transport) => _transport = transport;

    /// <summary>True once the client is gone; further replies are dropped.</summary>
    public bool Broken => _broken;

    /// <summary>Sends whole replies, waiting for the client to take them. Any thread.</summary>
    public void Send(ReadOnlySpan<byte> replies)
    {
        lock (_sendLock)
        {
            SendLocked(replies);
        }
    }

    /// <summary>Sends a chunk of a reply that has more of them. Any thread.</summary>
    public async ValueTask SendPartAsync(ReadOnlyMemory<byte> chunk)
    {
        using AsyncMutex.Releaser held = await _parts.LockAsync();
        Send(chunk.Span);
    }

    /// <summary>Sends the reply of a finished request, alone or with others, then ends the request. Any thread.</summary>
    public void Complete(NbdRequest request)
    {
        lock (_gate)
        {
            _ready.Add(request);
            if (_draining)
            {
                return;
            }

            _draining = true;
        }

        while (TryTakeBatch())
        {
            SendBatch();
            foreach (NbdRequest done in _batch)
            {
                done.End();
            }

            _batch.Clear();
        }
    }

    /// <summary>Frees memory. Nothing may be in flight.</summary>
    public void Dispose()
    {
        Debug.Assert(_ready.Count == 0);
        if (_gather is { } gather)
        {
            _gather = null;
            AlignedBufferPool.Shared.Return(gather);
        }
    }

    private bool TryTakeBatch()
    {
        lock (_gate)
        {
            if (_ready.Count == 0)
            {
                _draining = false;
                return false;
            }

            (_ready, _batch) = (_batch, _ready);
            return true;
        }
    }

    private void SendBatch()
    {
        if (_batch.Count == 1)
        {
            Send(_batch[0].Reply.Span);
            return;
        }

        _gather ??= AlignedBufferPool.Shared.Rent(GatherBytes);
        Span<byte> gather = _gather.GetSpan();
        lock (_sendLock)
        {
            int gathered = 0;
            foreach (NbdRequest request in _batch)
            {
                ReadOnlySpan<byte> reply = request.Reply.Span;
                if (gathered + reply.Length > gather.Length)
                {
                    SendLocked(gather[..gathered]);
                    gathered = 0;
                }

                if (reply.Length > gather.Length / 4)
                {
                    SendLocked(gather[..gathered]);
                    gathered = 0;
                    SendLocked(reply);
                    continue;
                }

                reply.CopyTo(gather[gathered..]);
                gathered += reply.Length;
            }

            SendLocked(gather[..gathered]);
        }
    }

    private void SendLocked(ReadOnlySpan<byte> bytes)
    {
        if (bytes.IsEmpty || _broken)
        {
            return;
        }

        if (!_transport.Send(bytes))
        {
            // The receiver must hear of it too: a client may close one direction only.
            _broken = true;
            _transport.Abort();
        }
    }
}
