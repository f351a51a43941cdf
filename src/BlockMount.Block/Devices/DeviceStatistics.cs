using System.Diagnostics;

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

    // The clock is read for one request of so many only: it would cost a cached read a fortieth of its time.
    private const long TimedInterval = 16;
    private long _timed;
    private long _timedTicks;

    /// <summary>Successful operations.</summary>
    public long Operations => Volatile.Read(ref _operations);

    /// <summary>Bytes that they covered.</summary>
    public long Bytes => Volatile.Read(ref _bytes);

    /// <summary>Failed operations.</summary>
    public long Failures => Volatile.Read(ref _failures);

    /// <summary>What all of them took together, waiting for a drained section included: from the requests whose time was taken, in proportion.</summary>
    public TimeSpan TotalTime
    {
        get
        {
            long timed = Volatile.Read(ref _timed);
            return timed == 0 ? TimeSpan.Zero : Stopwatch.GetElapsedTime(0, (long)((double)Volatile.Read(ref _timedTicks) / timed * Operations));
        }
    }

    /// <summary>A request begins.</summary>
    /// <returns>For <see cref="Succeeded"/>: the time, or 0 if it is not taken.</returns>
    internal long Begin() => Volatile.Read(ref _operations) % TimedInterval == 0 ? Stopwatch.GetTimestamp() : 0;

    internal void Succeeded(long bytes, long started)
    {
        if (started != 0)
        {
            Interlocked.Add(ref _timedTicks, Stopwatch.GetTimestamp() - started);
            Interlocked.Increment(ref _timed);
        }

        Interlocked.Increment(ref _operations);
        Interlocked.Add(ref _bytes, bytes);
    }

    internal void Failed() => Interlocked.Increment(ref _failures);
}
