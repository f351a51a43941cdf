namespace BlockMount.Block.Filters;

/// <summary>
/// Limits that several throttle nodes share (object throttle-group). Requests that must wait are let through in the order in which they came, reads and writes each for themselves.
/// Any thread. A request that goes through at once costs one short lock.
/// </summary>
public sealed class ThrottleGroup : IDisposable
{
    private readonly TimeProvider _time;
    private readonly Lock _gate = new();

    // All guarded by _gate.
    private readonly LinkedList<Waiter>[] _waiting = [new(), new()];
    private readonly ITimer _timer;
    private ThrottleLimits _limits = new();
    private LeakyBucket[] _buckets = [];
    private long _lastLeak;

    /// <summary>A group without limits.</summary>
    public ThrottleGroup(string name, TimeProvider time)
    {
        Name = name;
        _time = time;
        _lastLeak = time.GetTimestamp();
        _timer = time.CreateTimer(_ => LetGo(), null, Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
        Limits = new ThrottleLimits();
    }

    /// <summary>What nodes name.</summary>
    public string Name { get; }

    /// <summary>Requests that wait, for queries and tests.</summary>
    public int WaitingCount
    {
        get
        {
            lock (_gate)
            {
                return _waiting[0].Count + _waiting[1].Count;
            }
        }
    }

    /// <summary>The limits in force; new ones begin with empty buckets, and those who wait are looked at anew.</summary>
    /// <exception cref="Graph.GraphException">They contradict each other.</exception>
    public ThrottleLimits Limits
    {
        get
        {
            lock (_gate)
            {
                return _limits;
            }
        }

        set
        {
            value.Check();
            lock (_gate)
            {
                _limits = value;
                _buckets = [.. value.All.Select(limit => new LeakyBucket(limit))];
                _lastLeak = _time.GetTimestamp();
            }

            LetGo();
        }
    }

    /// <summary>Ends the timer. Nobody waits any more.</summary>
    public void Dispose() => _timer.Dispose();

    /// <summary>Waits until a request may go through.</summary>
    /// <param name="owner">The node that it comes from. While that is drained its requests count, and do not wait.</param>
    internal ValueTask AdmitAsync(ThrottleNode owner, bool isWrite, long bytes)
    {
        Waiter waiter;
        lock (_gate)
        {
            LinkedList<Waiter> queue = _waiting[isWrite ? 1 : 0];
            double wait = WaitLocked(isWrite);
            if (owner.IsDrained || (queue.Count == 0 && wait <= 0))
            {
                FillLocked(isWrite, bytes);
                return ValueTask.CompletedTask;
            }

            waiter = new Waiter(owner, isWrite, bytes);
            queue.AddLast(waiter);
            if (queue.Count == 1)
            {
                SetTimerLocked();
            }
        }

        return new ValueTask(waiter.Admitted.Task);
    }

    /// <summary>Lets everything through that waits on behalf of a node. It counts, so that those who come after it wait longer.</summary>
    internal void Release(ThrottleNode owner)
    {
        lock (_gate)
        {
            foreach (LinkedList<Waiter> queue in _waiting)
            {
                for (LinkedListNode<Waiter>? node = queue.First; node is not null;)
                {
                    LinkedListNode<Waiter>? next = node.Next;
                    if (node.Value.Owner == owner)
                    {
                        queue.Remove(node);
                        AdmitLocked(node.Value);
                    }

                    node = next;
                }
            }

            SetTimerLocked();
        }
    }

    private void LetGo()
    {
        lock (_gate)
        {
            foreach (LinkedList<Waiter> queue in _waiting)
            {
                while (queue.First is { } first && WaitLocked(first.Value.IsWrite) <= 0)
                {
                    queue.RemoveFirst();
                    AdmitLocked(first.Value);
                }
            }

            SetTimerLocked();
        }
    }

    private void AdmitLocked(Waiter waiter)
    {
        FillLocked(waiter.IsWrite, waiter.Bytes);
        // Continuations run elsewhere, not under the lock.
        waiter.Admitted.SetResult();
    }

    private double WaitLocked(bool isWrite)
    {
        long now = _time.GetTimestamp();
        double passed = _time.GetElapsedTime(_lastLeak, now).TotalSeconds;
        _lastLeak = now;
        foreach (LeakyBucket bucket in _buckets)
        {
            bucket.Leak(passed);
        }

        // Of bytes and of requests: the total, and that of the direction.
        int direction = isWrite ? 2 : 1;
        return Math.Max(Math.Max(_buckets[0].Wait(), _buckets[direction].Wait()), Math.Max(_buckets[3].Wait(), _buckets[3 + direction].Wait()));
    }

    private void FillLocked(bool isWrite, long bytes)
    {
        int direction = isWrite ? 2 : 1;
        double requests = _limits.IopsSize > 0 ? Math.Max(1, (double)bytes / _limits.IopsSize) : 1;
        _buckets[0].Fill(bytes);
        _buckets[direction].Fill(bytes);
        _buckets[3].Fill(requests);
        _buckets[3 + direction].Fill(requests);
    }

    private void SetTimerLocked()
    {
        double seconds = double.PositiveInfinity;
        foreach (LinkedList<Waiter> queue in _waiting)
        {
            if (queue.First is { } first)
            {
                seconds = Math.Min(seconds, WaitLocked(first.Value.IsWrite));
            }
        }

        TimeSpan due = double.IsPositiveInfinity(seconds) ? Timeout.InfiniteTimeSpan : TimeSpan.FromMilliseconds(Math.Min(Math.Ceiling(seconds * 1000), int.MaxValue));
        _ = _timer.Change(due, Timeout.InfiniteTimeSpan);
    }

    private sealed class Waiter(ThrottleNode owner, bool isWrite, long bytes)
    {
        internal ThrottleNode Owner { get; } = owner;

        internal bool IsWrite { get; } = isWrite;

        internal long Bytes { get; } = bytes;

        internal TaskCompletionSource Admitted { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);
    }
}
