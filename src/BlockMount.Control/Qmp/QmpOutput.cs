using System.Text;
using System.Threading.Channels;
using BlockMount.Control.Json;

namespace BlockMount.Control.Qmp;

/// <summary>
/// What goes to one client: whole lines, in the order in which they were given, by one writer in the background. A client that does not read is
/// cut off before what waits for it fills the memory. Any thread.
/// </summary>
internal sealed class QmpOutput
{
    /// <summary>With so many bytes waiting no further command of this client is begun.</summary>
    public const long BytesBeforeWaiting = 1 << 20;

    /// <summary>With so many bytes waiting the client is cut off.</summary>
    public const long BytesMax = 64 << 20;

    // A client that is so far behind is not waiting for the next answer.
    private static readonly TimeSpan s_look = TimeSpan.FromMilliseconds(20);

    private readonly Stream _stream;
    private readonly bool _pretty;
    private readonly Channel<byte[]> _lines = Channel.CreateUnbounded<byte[]>(new UnboundedChannelOptions { SingleReader = true });
    private readonly Task _writer;
    private long _waiting;
    private volatile bool _broken;

    /// <param name="stream">Where the bytes go; still the caller's.</param>
    public QmpOutput(Stream stream, bool pretty)
    {
        _stream = stream;
        _pretty = pretty;
        _writer = WriteAsync();
    }

    /// <summary>True once the client is gone or cut off; later lines are dropped.</summary>
    public bool Broken => _broken;

    /// <summary>Adds a message.</summary>
    public void Send(JsonObject message)
    {
        byte[] line = Encoding.ASCII.GetBytes(JsonWriter.Write(message, _pretty) + "\r\n");
        if (Interlocked.Add(ref _waiting, line.Length) > BytesMax)
        {
            _broken = true;
        }

        if (!_broken)
        {
            _ = _lines.Writer.TryWrite(line);
        }
    }

    /// <summary>Waits until the client has read most of what was sent to it.</summary>
    public async ValueTask RoomAsync(CancellationToken cancel)
    {
        while (!_broken && Volatile.Read(ref _waiting) > BytesBeforeWaiting)
        {
            await Task.Delay(s_look, cancel);
        }
    }

    /// <summary>Sends what is left, for at most so long.</summary>
    public async ValueTask FinishAsync(TimeSpan limit)
    {
        _ = _lines.Writer.TryComplete();
        _ = await Task.WhenAny(_writer, Task.Delay(limit));
        _broken = true;
    }

    private async Task WriteAsync()
    {
        try
        {
            await foreach (byte[] line in _lines.Reader.ReadAllAsync())
            {
                if (!_broken)
                {
                    await _stream.WriteAsync(line);
                    await _stream.FlushAsync();
                }

                _ = Interlocked.Add(ref _waiting, -line.Length);
            }
        }
        catch (Exception error) when (error is IOException or ObjectDisposedException or InvalidOperationException)
        {
            // The client is gone; its reader notices by itself.
            _broken = true;
        }
    }
}
