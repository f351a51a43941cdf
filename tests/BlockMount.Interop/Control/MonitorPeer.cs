using BlockMount.Control.Json;

namespace BlockMount.Interop.Control;

/// <summary>A client of a QMP monitor, ours or QEMU's, that sends bytes as they are and receives messages. The streams are the caller's.</summary>
internal sealed class MonitorPeer
{
    private static readonly TimeSpan s_limit = TimeSpan.FromSeconds(30);

    private readonly Stream _input;
    private readonly Stream _output;
    private readonly byte[] _buffer = new byte[64 << 10];
    private readonly Queue<JsonValue> _received = new();
    private readonly JsonReader _reader;

    /// <param name="input">What the monitor says.</param>
    /// <param name="output">What it is told.</param>
    public MonitorPeer(Stream input, Stream output)
    {
        _input = input;
        _output = output;
        // Some answers are no JSON, at QEMU and here: numbers that are infinite.
        _reader = new JsonReader((value, error) => _received.Enqueue(value ?? new JsonString(error!)));
    }

    public async Task SendAsync(ReadOnlyMemory<byte> bytes)
    {
        await _output.WriteAsync(bytes);
        await _output.FlushAsync();
    }

    /// <summary>The next message, events included.</summary>
    /// <exception cref="EndOfStreamException">There is none any more.</exception>
    public async Task<JsonValue> ReceiveAsync()
    {
        while (_received.Count == 0)
        {
            using CancellationTokenSource limit = new(s_limit);
            int count = await _input.ReadAsync(_buffer, limit.Token);
            if (count == 0)
            {
                throw new EndOfStreamException("the monitor has ended");
            }

            _reader.Feed(_buffer.AsSpan(0, count));
        }

        return _received.Dequeue();
    }
}
