using System.Collections.Concurrent;
using System.Diagnostics;
using BlockMount.Base.Buffers;
using BlockMount.Storage;

namespace BlockMount.Formats.Qcow2.Metadata;

/// <summary>
/// Slices of one kind of table, by host offset. A hit takes no lock and allocates nothing; loading is single-flight per slice and
/// never blocks other lookups; dirty slices stay until they are written back, so the capacity may be exceeded for a while.
/// It knows nothing of the order in which kinds of tables are written: see <see cref="WriteBackOrder"/>.
/// </summary>
public sealed class MetadataCache
{
    private readonly StorageFile _file;
    private readonly int _sliceSize;
    private readonly int _capacity;
    private readonly ConcurrentDictionary<long, MetadataSlice> _slices = new();

    // _gate guards _ring, _hand, _loading and every change of _slices' membership; held for a few instructions only.
    private readonly Lock _gate = new();
    private readonly List<MetadataSlice> _ring = [];
    private readonly Dictionary<long, Task<MetadataSlice>> _loading = [];
    private int _hand;

    // Guarded by the image's metadata mutex.
    private readonly List<MetadataSlice> _dirty = [];

    /// <param name="capacity">Slices to keep, at least 2.</param>
    public MetadataCache(StorageFile file, int sliceSize, int capacity)
    {
        Debug.Assert(capacity >= 2);
        _file = file;
        _sliceSize = sliceSize;
        _capacity = capacity;
    }

    /// <summary>True if anything must be written back. Read under the metadata mutex.</summary>
    public bool HasDirty => _dirty.Count > 0;

    /// <summary>So much is dirty that the cache can hardly do its work: write back before changing more.</summary>
    public bool IsCrowded => _dirty.Count * 2 > _capacity;

    /// <summary>Looks up a slice without a lock.</summary>
    public bool TryGet(long hostOffset, out MetadataSlice slice)
    {
        if (!_slices.TryGetValue(hostOffset, out slice!))
        {
            return false;
        }

        // Written only when needed: the line stays shared between processors.
        if (!slice.Referenced)
        {
            slice.Referenced = true;
        }

        return true;
    }

    /// <summary>Looks up a slice and loads it where it is missing.</summary>
    public ValueTask<MetadataSlice> GetAsync(long hostOffset) =>
        TryGet(hostOffset, out MetadataSlice slice) ? new ValueTask<MetadataSlice>(slice) : LoadSharedAsync(hostOffset);

    /// <summary>
    /// Like <see cref="GetAsync"/>, but the slice is marked dirty first, so that it cannot be evicted between the look-up
    /// and the change. Call under the metadata mutex.
    /// </summary>
    public async ValueTask<MetadataSlice> GetForWriteAsync(long hostOffset)
    {
        while (true)
        {
            MetadataSlice slice = await GetAsync(hostOffset);
            lock (_gate)
            {
                if (_slices.TryGetValue(hostOffset, out MetadataSlice? current) && current == slice)
                {
                    MarkDirty(slice);
                    return slice;
                }
            }
        }
    }

    /// <summary>Forgets the slices of a table that is no longer in use, changes included. Call under the metadata mutex.</summary>
    public void Drop(long hostOffset, long length)
    {
        lock (_gate)
        {
            for (long offset = hostOffset; offset < hostOffset + length; offset += _sliceSize)
            {
                if (_slices.TryRemove(offset, out MetadataSlice? slice))
                {
                    _ring.Remove(slice);
                    _hand = 0;
                    if (slice.Dirty)
                    {
                        slice.Dirty = false;
                        _dirty.Remove(slice);
                    }
                }
            }
        }
    }

    /// <summary>
    /// Lets go of clean slices that were not used since the last call, or at all since the eviction hand passed. Any thread.
    /// </summary>
    public void DropUnused()
    {
        int dropped = 0;
        lock (_gate)
        {
            for (int i = _ring.Count - 1; i >= 0; i--)
            {
                MetadataSlice slice = _ring[i];
                if (slice.Dirty || slice.Referenced)
                {
                    slice.Referenced = false;
                    continue;
                }

                _ring[i] = _ring[^1];
                _ring.RemoveAt(_ring.Count - 1);
                _slices.TryRemove(slice.HostOffset, out _);
                dropped++;
            }
        }

        EvictedMemory.Add((long)dropped * _sliceSize);
    }

    /// <summary>Writes every dirty slice, in ascending order. Call under the metadata mutex. What fails stays dirty.</summary>
    /// <param name="kind">What the slices are part of; nothing is written outside such tables.</param>
    public async ValueTask WriteBackAsync(OverlapChecks checks, MetadataKinds kind)
    {
        // Descending, because they are taken from the end: the disk sees ascending offsets.
        _dirty.Sort(static (left, right) => right.HostOffset.CompareTo(left.HostOffset));
        AlignedBuffer buffer = AlignedBufferPool.Shared.Rent(_sliceSize);
        try
        {
            while (_dirty.Count > 0)
            {
                MetadataSlice slice = _dirty[^1];
                checks.CheckTable(kind, slice.HostOffset, _sliceSize);
                slice.Bytes.CopyTo(buffer.GetSpan());
                await _file.WriteAsync(slice.HostOffset, buffer.Memory[.._sliceSize]);
                lock (_gate)
                {
                    slice.Dirty = false;
                }

                _dirty.RemoveAt(_dirty.Count - 1);
            }
        }
        finally
        {
            AlignedBufferPool.Shared.Return(buffer);
        }

        int evicted;
        lock (_gate)
        {
            evicted = EvictLocked(except: null);
        }

        EvictedMemory.Add((long)evicted * _sliceSize);
    }

    private void MarkDirty(MetadataSlice slice)
    {
        if (!slice.Dirty)
        {
            slice.Dirty = true;
            _dirty.Add(slice);
        }
    }

    private async ValueTask<MetadataSlice> LoadSharedAsync(long hostOffset)
    {
        if (HistoricBug.Is(Bug.D5CacheWithoutLock))
        {
            return await LoadAsync(hostOffset, new TaskCompletionSource<MetadataSlice>());
        }

        Task<MetadataSlice>? load;
        TaskCompletionSource<MetadataSlice>? mine = null;
        lock (_gate)
        {
            if (_slices.TryGetValue(hostOffset, out MetadataSlice? present))
            {
                return present;
            }

            if (!_loading.TryGetValue(hostOffset, out load))
            {
                mine = new TaskCompletionSource<MetadataSlice>(TaskCreationOptions.RunContinuationsAsynchronously);
                load = mine.Task;
                _loading.Add(hostOffset, load);
            }
        }

        return mine is null ? await load : await LoadAsync(hostOffset, mine);
    }

    private async ValueTask<MetadataSlice> LoadAsync(long hostOffset, TaskCompletionSource<MetadataSlice> waiters)
    {
        try
        {
            MetadataSlice slice = await ReadSliceAsync(hostOffset);
            int evicted;
            lock (_gate)
            {
                _loading.Remove(hostOffset);
                _slices[hostOffset] = slice;
                _ring.Add(slice);
                evicted = EvictLocked(except: slice);
            }

            EvictedMemory.Add((long)evicted * _sliceSize);
            waiters.SetResult(slice);
            return slice;
        }
        catch (Exception error)
        {
            lock (_gate)
            {
                _loading.Remove(hostOffset);
            }

            waiters.SetException(error);
            // Observed here: there may be nobody else waiting.
            _ = waiters.Task.Exception;
            throw;
        }
    }

    private async ValueTask<MetadataSlice> ReadSliceAsync(long hostOffset)
    {
        AlignedBuffer buffer = AlignedBufferPool.Shared.Rent(_sliceSize);
        try
        {
            await _file.ReadAsync(hostOffset, buffer.Memory[.._sliceSize]);
            MetadataSlice slice = new(hostOffset, _sliceSize) { Referenced = true };
            buffer.GetSpan()[.._sliceSize].CopyTo(slice.Bytes);
            return slice;
        }
        finally
        {
            AlignedBufferPool.Shared.Return(buffer);
        }
    }

    // Second chance: the hand clears "referenced" and takes the first clean slice that was not used since its last visit. What was just
    // loaded stays, even if all others are dirty: its reader would load it for ever. Returns how many slices went.
    private int EvictLocked(MetadataSlice? except)
    {
        int before = _ring.Count;
        int visits = _ring.Count * 2;
        while (_ring.Count > _capacity && visits-- > 0)
        {
            _hand = _hand >= _ring.Count ? 0 : _hand;
            MetadataSlice slice = _ring[_hand];
            if (slice.Dirty || slice.Referenced || slice == except)
            {
                slice.Referenced = false;
                _hand++;
                continue;
            }

            _ring[_hand] = _ring[^1];
            _ring.RemoveAt(_ring.Count - 1);
            _slices.TryRemove(slice.HostOffset, out _);
        }

        return before - _ring.Count;
    }
}
