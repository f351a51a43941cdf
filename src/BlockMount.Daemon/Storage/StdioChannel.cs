using BlockMount.Control.Terminal;

namespace BlockMount.Daemon.Storage;

/// <summary>The standard streams. Nothing but what the monitor says is written there; the end of the input ends the client and not the daemon.</summary>
internal sealed class StdioChannel(string label) : Channel(label)
{
    private readonly CancellationTokenSource _stopping = new();
    private Task _serving = Task.CompletedTask;

    protected override string FileName => "stdio";

    public override ValueTask OpenAsync(CancellationToken cancel)
    {
        _serving = ServeAsync();
        return ValueTask.CompletedTask;
    }

    public override async ValueTask DisposeAsync()
    {
        await _stopping.CancelAsync();
        await _serving;
        _stopping.Dispose();
    }

    private async Task ServeAsync()
    {
        try
        {
            ServeClient serve = await Monitor.WaitAsync(_stopping.Token);
            await using DuplexStream stream = new(new AbandonableInput(Console.OpenStandardInput()), Console.OpenStandardOutput());
            await serve(stream, _stopping.Token);
        }
        catch (OperationCanceledException)
        {
            // The daemon ends.
        }
    }

    // A read of a pipe or terminal cannot be cancelled; it is left to itself, and ends with the process.
    private sealed class AbandonableInput(Stream input) : Stream
    {
        public override bool CanRead => true;

        public override bool CanSeek => false;

        public override bool CanWrite => false;

        public override long Length => throw new NotSupportedException();

        public override long Position
        {
            get => throw new NotSupportedException();
            set => throw new NotSupportedException();
        }

        public override ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default) =>
            new(input.ReadAsync(buffer, CancellationToken.None).AsTask().WaitAsync(cancellationToken));

        public override int Read(byte[] buffer, int offset, int count) => input.Read(buffer, offset, count);

        public override void Flush()
        {
        }

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();

        public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();
    }
}
