namespace BlockMount.Base;

/// <summary>The largest of all values that were noted, at least 0. Any thread, without a lock; a mutable struct: keep it in a field that is not readonly.</summary>
public struct HighWaterMark
{
    private long _value;

    /// <summary>The largest value so far.</summary>
    public long Value => Volatile.Read(ref _value);

    /// <summary>Notes a value. Costs one comparison where it is no new mark.</summary>
    public void Note(long value)
    {
        long before = Volatile.Read(ref _value);
        while (value > before)
        {
            long seen = Interlocked.CompareExchange(ref _value, value, before);
            if (seen == before)
            {
                return;
            }

            before = seen;
        }
    }
}
