using BlockMount.Base;
using BlockMount.Storage;

namespace BlockMount.TestSupport.Simulation;

/// <summary>
/// A file in memory whose calls wait for a <see cref="Scheduler"/>, and the watchman of host ranges (RELIABILITY I3): while a call of one operation
/// is in flight, no other operation may touch the same bytes in a way that matters, unless the two work on the same guest clusters. That is how a cluster
/// shows itself that was handed out, or punched, while somebody was still using it. Calls that no scheduled operation makes complete at once.
/// Owns the memory file. Single-threaded.
/// </summary>
public sealed class ScheduledFile : StorageFile
{
    private readonly MemoryFile _memory;
    private readonly Scheduler _scheduler;
    private readonly Func<int, int, bool> _mayMeet;
    private readonly List<InFlight> _inFlight = [];
    private readonly int _number;
    private bool _flushFailed;

    /// <param name="mayMeet">
    /// Tells whether two operations work on the same guest clusters now, so that their calls may meet in one host range. A flush works on none: neither
    /// its tables nor its holes may meet anybody.
    /// </param>
    /// <param name="number">Tells the files of one image apart.</param>
    public ScheduledFile(MemoryFile memory, Scheduler scheduler, Func<int, int, bool> mayMeet, int number = 0)
    {
        _number = number;
        _memory = memory;
        _scheduler = scheduler;
        _mayMeet = mayMeet;
    }

    public override string Name => _memory.Name;

    public override bool ReadOnly => _memory.ReadOnly;

    public override long Length => _memory.Length;

    public override long AllocatedBytes => _memory.AllocatedBytes;

    public override async ValueTask FlushAsync()
    {
        await WaitAsync(StorageCalls.Flush, 0, 0, () => _flushFailed
            // As the contract of a file says: after a failed flush none succeeds.
            ? throw new BlockIOException(Errno.EIO, $"flush of '{Name}' after an earlier flush failed")
            : ValueTask.CompletedTask);
    }

    public override async ValueTask ResizeAsync(long length)
    {
        long first = Math.Min(length, _memory.Length);
        await WaitAsync(StorageCalls.Resize, first, long.MaxValue - first, () => _memory.ResizeAsync(length));
    }

    public override ValueTask<FileExtent> MapAsync(long offset, long length) => _memory.MapAsync(offset, length);

    public override ValueTask DisposeAsync()
    {
        if (_inFlight.Count > 0)
        {
            throw new SimulationException($"'{Name}' was closed with {_inFlight.Count} calls in flight");
        }

        return _memory.DisposeAsync();
    }

    protected override async ValueTask ReadCoreAsync(long offset, Memory<byte> buffer) =>
        await WaitAsync(StorageCalls.Read, offset, buffer.Length, () => _memory.ReadAsync(offset, buffer));

    protected override async ValueTask WriteCoreAsync(long offset, ReadOnlyMemory<byte> buffer) =>
        await WaitAsync(StorageCalls.Write, offset, buffer.Length, () => _memory.WriteAsync(offset, buffer));

    protected override async ValueTask WriteZeroesCoreAsync(long offset, long length, bool mayUnmap) =>
        await WaitAsync(StorageCalls.WriteZeroes, offset, length, () => _memory.WriteZeroesAsync(offset, length, mayUnmap));

    protected override async ValueTask<bool> PunchHoleCoreAsync(long offset, long length)
    {
        await WaitAsync(StorageCalls.PunchHole, offset, length, async () => await _memory.PunchHoleAsync(offset, length));
        return true;
    }

    private async ValueTask WaitAsync(StorageCalls call, long offset, long length, Func<ValueTask> effect)
    {
        if (_scheduler.Current < 0)
        {
            await effect();
            return;
        }

        InFlight mine = new(_scheduler.Current, call, offset, length);
        if (call is not (StorageCalls.Flush or StorageCalls.Resize))
        {
            CheckMeetings(mine);
            _inFlight.Add(mine);
        }

        bool changesLength = call == StorageCalls.Resize || (call is StorageCalls.Write or StorageCalls.WriteZeroes && offset + length > _memory.Length);
        try
        {
            await _scheduler.CallAsync(_number, call, offset, length, changesLength, effect);
        }
        catch (BlockIOException) when (call == StorageCalls.Flush)
        {
            _flushFailed = true;
            throw;
        }
        finally
        {
            _inFlight.Remove(mine);
        }
    }

    private void CheckMeetings(InFlight mine)
    {
        foreach (InFlight other in _inFlight)
        {
            bool overlap = mine.Offset < other.End && other.Offset < mine.End;
            bool changes = ((mine.Call | other.Call) & StorageCalls.Changes) != 0;
            if (overlap && changes && mine.Operation != other.Operation && !_mayMeet(mine.Operation, other.Operation))
            {
                throw new SimulationException($"host range in use: {mine} while {other} is in flight");
            }
        }
    }

    private sealed record InFlight(int Operation, StorageCalls Call, long Offset, long Length)
    {
        // The length of a compressed stream is known in sectors: its reader may read into the next stream, and ignores what it finds there.
        internal long End => Offset + (Call == StorageCalls.Read ? Math.Max(Length - 511, 1) : Length);

        public override string ToString() => $"{Call} at {Offset} + {Length} by operation {Operation}";
    }
}
