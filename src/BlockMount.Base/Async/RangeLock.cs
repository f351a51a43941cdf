using System.Diagnostics;

namespace BlockMount.Base.Async;

/// <summary>
/// Mutual exclusion of overlapping ranges of longs (bytes or clusters). Waiters are served in the order of arrival
/// among those that overlap, so nobody starves. Taken only by writes that allocate or read-modify-write; in-place
/// overwrites never come here.
/// </summary>
public sealed class RangeLock
{
    private readonly Lock _gate = new();

    // Guarded by _gate. Holders and waiters in the order of arrival; few at a time, so a list is enough.
    private readonly List<Entry> _entries = [];

    /// <summary>Number of ranges held or waited for; for assertions.</summary>
    public int Count
    {
        get
        {
            lock (_gate)
            {
                return _entries.Count;
            }
        }
    }

    /// <summary>
    /// Locks [<paramref name="start"/>, <paramref name="start"/> + <paramref name="length"/>). The result must be passed to
    /// <see cref="Release"/> exactly once. A caller that holds a range must not ask for a second one that overlaps it.
    /// </summary>
    public async ValueTask<Entry> LockAsync(long start, long length)
    {
        Debug.Assert(length > 0);
        Entry entry = new(start, start + length);
        lock (_gate)
        {
            entry.Blockers = CountOverlaps(entry);
            _entries.Add(entry);
            if (entry.Blockers == 0)
            {
                return entry;
            }

            entry.Signal = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        }

        await entry.Signal.Task;
        return entry;
    }

    /// <summary>Unlocks a range and wakes those whose last obstacle it was.</summary>
    public void Release(Entry entry)
    {
        lock (_gate)
        {
            int index = _entries.IndexOf(entry);
            Debug.Assert(index >= 0, "a range was released twice");
            _entries.RemoveAt(index);
            for (int i = index; i < _entries.Count; i++)
            {
                Entry later = _entries[i];
                if (later.Overlaps(entry) && --later.Blockers == 0)
                {
                    // Continuations run asynchronously, so no foreign code runs under the lock.
                    later.Signal!.SetResult();
                }
            }
        }
    }

    private int CountOverlaps(Entry entry)
    {
        int count = 0;
        foreach (Entry earlier in _entries)
        {
            if (earlier.Overlaps(entry))
            {
                count++;
            }
        }

        return count;
    }

    /// <summary>One locked (or waiting) range; opaque to the caller.</summary>
    public sealed class Entry
    {
        private readonly long _start;
        private readonly long _end;

        internal Entry(long start, long end)
        {
            _start = start;
            _end = end;
        }

        // Both guarded by the owner's gate.
        internal int Blockers { get; set; }

        internal TaskCompletionSource? Signal { get; set; }

        internal bool Overlaps(Entry other) => _start < other._end && other._start < _end;
    }
}
