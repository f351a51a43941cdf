using BlockMount.Storage;

namespace BlockMount.TestSupport.Simulation;

/// <summary>
/// A file whose calls take effect and complete later, in the order that <c>pause</c> decides (usually <see cref="SimulationContext.PauseAsync"/>).
/// Owns the file below. Reports a close while calls are in flight, and calls after it.
/// </summary>
public sealed class DelayingFile : StorageFile
{
    private readonly StorageFile _inner;
    private readonly Func<ValueTask> _pause;

    // Single-threaded by the simulation.
    private int _inFlight;
    private bool _disposed;

    public DelayingFile(StorageFile inner, Func<ValueTask> pause)
    {
        _inner = inner;
        _pause = pause;
    }

    public override string Name => _inner.Name;

    public override bool ReadOnly => _inner.ReadOnly;

    public override long Length => _inner.Length;

    public override long AllocatedBytes => _inner.AllocatedBytes;

    /// <summary>The most calls that were ever in flight together: shows that a test did overlap them.</summary>
    public int InFlightMost { get; private set; }

    public override async ValueTask FlushAsync()
    {
        await BeginAsync();
        await _inner.FlushAsync();
        await EndAsync();
    }

    public override async ValueTask ResizeAsync(long length)
    {
        await BeginAsync();
        await _inner.ResizeAsync(length);
        await EndAsync();
    }

    public override async ValueTask<FileExtent> MapAsync(long offset, long length)
    {
        await BeginAsync();
        FileExtent extent = await _inner.MapAsync(offset, length);
        await EndAsync();
        return extent;
    }

    public override async ValueTask DisposeAsync()
    {
        if (_inFlight != 0)
        {
            throw new InvalidOperationException($"'{Name}' was closed with {_inFlight} calls in flight");
        }

        await BeginAsync();
        _disposed = true;
        await _inner.DisposeAsync();
        await EndAsync();
    }

    protected override async ValueTask ReadCoreAsync(long offset, Memory<byte> buffer)
    {
        await BeginAsync();
        await _inner.ReadAsync(offset, buffer);
        await EndAsync();
    }

    protected override async ValueTask WriteCoreAsync(long offset, ReadOnlyMemory<byte> buffer)
    {
        await BeginAsync();
        await _inner.WriteAsync(offset, buffer);
        await EndAsync();
    }

    protected override async ValueTask WriteZeroesCoreAsync(long offset, long length, bool mayUnmap)
    {
        await BeginAsync();
        await _inner.WriteZeroesAsync(offset, length, mayUnmap);
        await EndAsync();
    }

    protected override async ValueTask<bool> PunchHoleCoreAsync(long offset, long length)
    {
        await BeginAsync();
        bool punched = await _inner.PunchHoleAsync(offset, length);
        await EndAsync();
        return punched;
    }

    private ValueTask BeginAsync()
    {
        if (_disposed)
        {
            throw new InvalidOperationException($"'{Name}' was used after it had been closed");
        }

        _inFlight++;
        InFlightMost = Math.Max(InFlightMost, _inFlight);
        return _pause();
    }

    private async ValueTask EndAsync()
    {
        await _pause();
        _inFlight--;
    }
}
