namespace BlockMount.TestSupport.Simulation;

/// <summary>
/// Time that passes only when a test says so, in microseconds from 0. Timers fire inside <see cref="AdvanceTo"/>, in the order of their times, on the
/// calling thread. Single-threaded.
/// </summary>
public sealed class ManualTime : TimeProvider
{
    private const long Never = long.MaxValue;

    private readonly List<ManualTimer> _timers = [];
    private long _now;

    /// <inheritdoc/>
    public override long TimestampFrequency => 1_000_000;

    /// <inheritdoc/>
    public override long GetTimestamp() => _now;

    /// <inheritdoc/>
    public override DateTimeOffset GetUtcNow() => DateTimeOffset.UnixEpoch.AddMicroseconds(_now);

    /// <inheritdoc/>
    public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period)
    {
        ManualTimer timer = new(this, callback, state);
        timer.Change(dueTime, period);
        _timers.Add(timer);
        return timer;
    }

    /// <summary>Lets time pass until <paramref name="timestamp"/>; a time that has passed already changes nothing.</summary>
    public void AdvanceTo(long timestamp)
    {
        while (_timers.MinBy(timer => timer.Due) is { } next && next.Due <= timestamp)
        {
            _now = Math.Max(_now, next.Due);
            next.Fire();
        }

        _now = Math.Max(_now, timestamp);
    }

    private sealed class ManualTimer(ManualTime owner, TimerCallback callback, object? state) : ITimer
    {
        private long _period = Never;

        internal long Due { get; private set; } = Never;

        public bool Change(TimeSpan dueTime, TimeSpan period)
        {
            Due = dueTime == Timeout.InfiniteTimeSpan ? Never : owner._now + (dueTime.Ticks / TimeSpan.TicksPerMicrosecond);
            _period = period == Timeout.InfiniteTimeSpan || period == TimeSpan.Zero ? Never : period.Ticks / TimeSpan.TicksPerMicrosecond;
            return true;
        }

        public void Dispose() => owner._timers.Remove(this);

        public ValueTask DisposeAsync()
        {
            Dispose();
            return ValueTask.CompletedTask;
        }

        internal void Fire()
        {
            Due = _period == Never ? Never : Due + _period;
            callback(state);
        }
    }
}
