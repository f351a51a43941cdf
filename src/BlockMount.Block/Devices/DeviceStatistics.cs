namespace BlockMount.Block.Devices;

/// <summary>Counters of one device since it was opened. Written on the data path without a lock, so sums may lag by an instant.</summary>
public sealed class DeviceStatistics
{
    private readonly OperationCounter _reads = new();
    private readonly OperationCounter _writes = new();
    private readonly OperationCounter _zeroes = new();
    private readonly OperationCounter _discards = new();
    private readonly OperationCounter _flushes = new();

    /// <summary>Completed reads.</summary>
    public OperationCounter Reads => _reads;

    /// <summary>Completed writes.</summary>
    public OperationCounter Writes => _writes;

    /// <summary>Completed requests to zero a range.</summary>
    public OperationCounter Zeroes => _zeroes;

    /// <summary>Completed discards.</summary>
    public OperationCounter Discards => _discards;

    /// <summary>Completed flushes; their byte count stays 0.</summary>
    public OperationCounter Flushes => _flushes;
}

/// <summary>Counts of one kind of operation.</summary>
public sealed class OperationCounter
{
    private long _operations;
    private long _bytes;
    private long _failures;

    /// <summary>Successful operations.</summary>
    public long Operations => Volatile.Read(ref _operations);

    /// <summary>Bytes that they covered.</summary>
    public long Bytes => Volatile.Read(ref _bytes);

    /// <summary>Failed operations.</summary>
    public long Failures => Volatile.Read(ref _failures);

    internal void Succeeded(long bytes)
    {
        Interlocked.Increment(ref _operations);
        Interlocked.Add(ref _bytes, bytes);
    }

    internal void Failed() => Interlocked.Increment(ref _failures);
}
