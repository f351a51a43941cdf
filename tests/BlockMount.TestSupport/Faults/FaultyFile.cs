using BlockMount.Base;
using BlockMount.Storage;

namespace BlockMount.TestSupport.Faults;

/// <summary>
/// A file whose calls fail as a <see cref="FaultPlan"/> says. Owns the file below. Counts every call, with or without a plan, so that a test
/// can ask how many there are to fail. Keeps the contract of <see cref="StorageFile"/>: after a failed flush every later flush fails.
/// </summary>
public sealed class FaultyFile : StorageFile
{
    private readonly StorageFile _inner;
    private readonly Lock _gate = new();

    // Guarded by _gate.
    private FaultPlan? _plan;
    private long _calls;
    private long _faults;
    private bool _flushFailed;

    public FaultyFile(StorageFile inner, FaultPlan? plan = null)
    {
        _inner = inner;
        _plan = plan;
    }

    public override string Name => _inner.Name;

    public override bool ReadOnly => _inner.ReadOnly;

    public override long Length => _inner.Length;

    public override long AllocatedBytes => _inner.AllocatedBytes;

    /// <summary>Calls since the plan was set, of the kinds that it counts (all kinds without a plan).</summary>
    public long Calls
    {
        get
        {
            lock (_gate)
            {
                return _calls;
            }
        }
    }

    /// <summary>Calls that were made to fail.</summary>
    public long Faults
    {
        get
        {
            lock (_gate)
            {
                return _faults;
            }
        }
    }

    /// <summary>Replaces the plan and starts counting at zero; null lets every call through.</summary>
    public void SetPlan(FaultPlan? plan)
    {
        lock (_gate)
        {
            _plan = plan;
            _calls = 0;
            _faults = 0;
        }
    }

    public override async ValueTask FlushAsync()
    {
        if (Count(StorageCalls.Flush) is { } plan)
        {
            Volatile.Write(ref _flushFailed, true);
            throw Failure(plan, "flush");
        }

        if (Volatile.Read(ref _flushFailed))
        {
            throw new BlockIOException(Errno.EIO, $"flush of '{Name}' after an earlier flush failed");
        }

        await _inner.FlushAsync();
    }

    public override async ValueTask ResizeAsync(long length)
    {
        if (Count(StorageCalls.Resize) is { } plan)
        {
            throw Failure(plan, $"resize to {length} bytes");
        }

        await _inner.ResizeAsync(length);
    }

    public override async ValueTask<FileExtent> MapAsync(long offset, long length)
    {
        if (Count(StorageCalls.Map) is { } plan)
        {
            throw Failure(plan, $"map at {offset}");
        }

        return await _inner.MapAsync(offset, length);
    }

    // A failing close has closed nevertheless, as close(2) has.
    public override async ValueTask DisposeAsync()
    {
        FaultPlan? plan = Count(StorageCalls.Close);
        await _inner.DisposeAsync();
        if (plan is not null)
        {
            throw Failure(plan, "close");
        }
    }

    protected override async ValueTask ReadCoreAsync(long offset, Memory<byte> buffer)
    {
        if (Count(StorageCalls.Read) is { } plan)
        {
            if (plan.ShortTransfer && buffer.Length > 1)
            {
                await _inner.ReadAsync(offset, buffer[..(buffer.Length / 2)]);
            }

            throw Failure(plan, $"read of {buffer.Length} bytes at {offset}");
        }

        await _inner.ReadAsync(offset, buffer);
    }

    protected override async ValueTask WriteCoreAsync(long offset, ReadOnlyMemory<byte> buffer)
    {
        if (Count(StorageCalls.Write) is { } plan)
        {
            if (PrefixOf(plan, offset, buffer.Length) is > 0 and int prefix)
            {
                await _inner.WriteAsync(offset, buffer[..prefix]);
            }

            throw Failure(plan, $"write of {buffer.Length} bytes at {offset}");
        }

        await _inner.WriteAsync(offset, buffer);
    }

    protected override async ValueTask WriteZeroesCoreAsync(long offset, long length, bool mayUnmap)
    {
        if (Count(StorageCalls.WriteZeroes) is { } plan)
        {
            if (PrefixOf(plan, offset, length) is > 0 and int prefix)
            {
                await _inner.WriteZeroesAsync(offset, prefix, mayUnmap);
            }

            throw Failure(plan, $"zero of {length} bytes at {offset}");
        }

        await _inner.WriteZeroesAsync(offset, length, mayUnmap);
    }

    protected override async ValueTask<bool> PunchHoleCoreAsync(long offset, long length)
    {
        if (Count(StorageCalls.PunchHole) is { } plan)
        {
            throw Failure(plan, $"punch of {length} bytes at {offset}");
        }

        return await _inner.PunchHoleAsync(offset, length);
    }

    // Up to the end of a sector of the file: a storage error does not tear a sector.
    private static int PrefixOf(FaultPlan plan, long offset, long length) =>
        plan.ShortTransfer ? (int)Math.Max(((offset + (length / 2)) & ~511L) - offset, 0) : 0;

    private BlockIOException Failure(FaultPlan plan, string what) => new(plan.Errno, $"{what} to '{Name}' (injected)");

    private FaultPlan? Count(StorageCalls kind)
    {
        lock (_gate)
        {
            if (_plan is not null && !_plan.Calls.HasFlag(kind))
            {
                return null;
            }

            _calls++;
            if (_plan is null || (_plan.Forever ? _calls < _plan.FailFrom : _calls != _plan.FailFrom))
            {
                return null;
            }

            _faults++;
            return _plan;
        }
    }
}
