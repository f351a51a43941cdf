using BlockMount.Formats;

namespace BlockMount.Block.Nodes;

/// <summary>The drivers "null-co" and "null-aio": a disk that forgets what is written, for tests. Any thread.</summary>
public sealed class NullNode : Node
{
    private readonly TimeSpan _latency;
    private readonly bool _readsZeros;
    private readonly TimeProvider _time;
    private string _name;
    private long _size;

    /// <param name="driverName">"null-co" or "null-aio".</param>
    /// <param name="latency">How long each request takes.</param>
    /// <param name="readsZeros">Reads fill the buffer with zeros; otherwise it stays as it is.</param>
    public NullNode(string name, string driverName, long size, TimeSpan latency, bool readsZeros, bool readOnly, TimeProvider time)
    {
        _name = name;
        DriverName = driverName;
        _size = size;
        _latency = latency;
        _readsZeros = readsZeros;
        ReadOnly = readOnly;
        _time = time;
    }

    /// <inheritdoc/>
    public override string Name => _name;

    /// <inheritdoc/>
    public override string DriverName { get; }

    /// <inheritdoc/>
    public override string FileName => $"{DriverName}://";

    /// <inheritdoc/>
    public override long Size => Volatile.Read(ref _size);

    /// <inheritdoc/>
    public override bool ReadOnly { get; }

    /// <inheritdoc/>
    public override long AllocatedBytes => 0;

    /// <inheritdoc/>
    public override int ClusterSize => 1;

    /// <inheritdoc/>
    public override Node? Backing => null;

    /// <inheritdoc/>
    public override ValueTask ReadAsync(long offset, Memory<byte> buffer)
    {
        if (_readsZeros)
        {
            buffer.Span.Clear();
        }

        return WaitAsync();
    }

    /// <inheritdoc/>
    public override ValueTask WriteAsync(long offset, ReadOnlyMemory<byte> buffer) => WaitAsync();

    /// <inheritdoc/>
    public override ValueTask ZeroAsync(long offset, long length, ZeroFlags flags) => WaitAsync();

    /// <inheritdoc/>
    public override ValueTask DiscardAsync(long offset, long length) => WaitAsync();

    /// <inheritdoc/>
    public override ValueTask FlushAsync() => WaitAsync();

    /// <inheritdoc/>
    public override ValueTask<BlockStatus> StatusAsync(long offset, long length, MapPurpose purpose) =>
        new(new BlockStatus(length, _readsZeros, IsAllocated: !_readsZeros, Depth: _readsZeros ? 0 : 1));

    /// <inheritdoc/>
    public override ValueTask ResizeAsync(long size, Preallocation preallocation = Preallocation.Off)
    {
        Volatile.Write(ref _size, size);
        return ValueTask.CompletedTask;
    }

    /// <inheritdoc/>
    public override ValueTask DisposeAsync() => ValueTask.CompletedTask;

    /// <inheritdoc/>
    internal override void Rename(string name) => _name = name;

    private ValueTask WaitAsync() => _latency == TimeSpan.Zero ? ValueTask.CompletedTask : new ValueTask(Task.Delay(_latency, _time));
}
