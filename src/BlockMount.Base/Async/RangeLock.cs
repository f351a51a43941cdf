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

    // Guarded by _gate; null where entries are not used again.
    private readonly Stack<Entry>? _spare;

    /// <param name="recycles">
    /// Entries are used again, so that locking allocates nothing unless it waits. Only for callers that certainly forget an entry when they release it:
    /// a second release would free somebody else's range.
    /// </param>
    public RangeLock(bool recycles = false) => _spare = recycles ? new Stack<Entry>() : null;

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
        Entry entry;
        lock (_gate)
        {
            entry = TakeEntryLocked(start, start + length);
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

            _spare?.Push(entry);
        }
    }

    private Entry TakeEntryLocked(long start, long end)
    {
        Entry entry = _spare is not null && _spare.TryPop(out Entry? used) ? used : new Entry();
        entry.Begin(start, end);
        return entry;
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
        private long _start;
        private long _end;

        internal Entry()
        {
        }

        // Both guarded by the owner's gate.
        internal int Blockers { get; set; }

        internal TaskCompletionSource? Signal { get; set; }

        internal void Begin(long start, long end)
        {
            _start = start;
            _end = end;
            Blockers = 0;
            Signal = null;
        }

        internal bool Overlaps(Entry other) => _start < other._end && other._start < _end;
    }
}
