using System.Text;
using BlockMount.Control.Json;

namespace BlockMount.Control.Qmp;

/// <summary>
/// What goes to one client: whole lines, in the order in which they were given, by one writer in the background. With much waiting no further command
/// of the client is begun; a client that lets events pile up beyond a limit is cut off, so that it can neither fill the memory nor hold up others. Any thread.
/// </summary>
internal sealed class QmpOutput
{
    /// <summary>With so many bytes waiting no further command of this client is begun.</summary>
    public const long BytesBeforeWaiting = 1 << 20;

    /// <summary>With so many bytes waiting the client is cut off.</summary>
    public const long BytesMax = 64 << 20;

    private readonly Stream _stream;
    private readonly bool _pretty;
    private readonly Lock _gate = new();

    // Guarded by _gate.
    private readonly Queue<byte[]> _lines = new();
    private long _waitingBytes;
    private bool _broken;
    private bool _writing;
    private TaskCompletionSource? _room;
    private TaskCompletionSource? _empty;

    /// <param name="stream">Where the bytes go; still the caller's.</param>
    public QmpOutput(Stream stream, bool pretty)
    {
        _stream = stream;
        _pretty = pretty;
    }

    /// <summary>Called once, from any thread, when the client is gone or cut off; must not wait. Set before anything is sent.</summary>
    public Action? Broken { get; set; }

    /// <summary>Adds a message. Never waits; dropped once the client is gone.</summary>
    public void Send(JsonObject message)
    {
        byte[] line = Encoding.ASCII.GetBytes(JsonWriter.Write(message, _pretty) + "\r\n");
        lock (_gate)
        {
            if (_broken)
            {
                return;
            }

            if (_waitingBytes + line.Length > BytesMax)
            {
                BreakLocked();
                return;
            }

            _lines.Enqueue(line);
            _waitingBytes += line.Length;
            if (!_writing)
            {
                _writing = true;
                // Ends when the queue is empty; FinishAsync waits for that.
                _ = Task.Run(WriteAsync);
            }
        }
    }

    /// <summary>Waits until the client has read most of what was sent to it, or is gone.</summary>
    public async ValueTask RoomAsync(CancellationToken cancel)
    {
        Task? room = null;
        lock (_gate)
        {
            if (!_broken && _waitingBytes > BytesBeforeWaiting)
            {
                _room ??= new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
                room = _room.Task;
            }
        }

        if (room is not null)
        {
            await room.WaitAsync(cancel);
        }
    }

    /// <summary>Sends what is left, for at most so long; later messages are dropped.</summary>
    public async ValueTask FinishAsync(TimeSpan limit)
    {
        Task? empty = null;
        lock (_gate)
        {
            if (_writing && !_broken)
            {
                _empty ??= new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
                empty = _empty.Task;
            }
        }

        if (empty is not null)
        {
            _ = await Task.WhenAny(empty, Task.Delay(limit));
        }

        lock (_gate)
        {
            BreakLocked();
        }
    }

    private async Task WriteAsync()
    {
        while (TakeNext() is { } line)
        {
            try
            {
                await _stream.WriteAsync(line);
                await _stream.FlushAsync();
            }
            catch (Exception error) when (error is IOException or ObjectDisposedException or InvalidOperationException)
            {
                // The client is gone.
                lock (_gate)
                {
                    BreakLocked();
                }
            }

            lock (_gate)
            {
                _waitingBytes -= line.Length;
                SignalRoomLocked();
            }
        }
    }

    private byte[]? TakeNext()
    {
        lock (_gate)
        {
            if (_lines.TryDequeue(out byte[]? line))
            {
                return line;
            }

            _writing = false;
            _empty?.TrySetResult();
            _empty = null;
            return null;
        }
    }

    private void SignalRoomLocked()
    {
        if (_broken || _waitingBytes <= BytesBeforeWaiting)
        {
            _room?.TrySetResult();
            _room = null;
        }
    }

    private void BreakLocked()
    {
        if (_broken)
        {
            return;
        }

        _broken = true;
        _lines.Clear();
        SignalRoomLocked();
        Broken?.Invoke();
    }
}
