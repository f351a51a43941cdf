namespace BlockMount.Block.Filters;

/// <summary>
/// One limit at work: what is let through fills the bucket, and it leaks at the average rate. A request goes through while the bucket is not full; a second, small bucket that leaks at the burst
/// rate keeps a long burst from coming all at once. Not thread-safe: guarded by the group.
/// </summary>
internal sealed class LeakyBucket
{
    // Without a burst rate so much may come at once, in seconds of the average: otherwise single requests would always wait.
    private const double SlackSeconds = 0.1;

    private readonly ThrottleLimit _limit;
    private double _level;
    private double _burstLevel;

    internal LeakyBucket(ThrottleLimit limit) => _limit = limit;

    /// <summary>Time passes.</summary>
    internal void Leak(double seconds)
    {
        _level = Math.Max(0, _level - (_limit.Average * seconds));
        _burstLevel = Math.Max(0, _burstLevel - (_limit.Max * seconds));
    }

    /// <summary>A request goes through, whether there was room or not.</summary>
    internal void Fill(double units)
    {
        if (_limit.Average > 0)
        {
            _level += units;
            _burstLevel += _limit.MaxLength > 1 ? units : 0;
        }
    }

    /// <summary>Seconds until the next request may go through; 0 for at once.</summary>
    internal double Wait()
    {
        if (_limit.Average == 0)
        {
            return 0;
        }

        double room = _limit.Max == 0 ? _limit.Average * SlackSeconds : (double)_limit.Max * _limit.MaxLength;
        if (_level > room)
        {
            return (_level - room) / _limit.Average;
        }

        double burstRoom = _limit.Max * SlackSeconds;
        return _limit.MaxLength > 1 && _burstLevel > burstRoom ? (_burstLevel - burstRoom) / _limit.Max : 0;
    }
}
