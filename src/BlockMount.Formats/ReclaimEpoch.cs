using System.Diagnostics;

namespace BlockMount.Formats;

/// <summary>
/// Tells when everyone who may have seen an old mapping has left (second half of I5). Readers enter and exit with one
/// interlocked operation each. Time is a counter: whoever entered in epoch e is counted in slot e mod 2, and the epoch
/// advances from e to e+1 only when slot e-1 is empty. What was unlinked in epoch e is out of sight from epoch e+2 on.
/// </summary>
public sealed class ReclaimEpoch
{
    private long _current;

    // One slot for even, one for odd epochs, on cache lines of their own.
    private readonly long[] _inside = new long[2 * Stride];

    private const int Stride = 16;

    // Whoever waits for the next slot that becomes empty; null when nobody does.
    private TaskCompletionSource? _emptied;

    /// <summary>The epoch to stamp on something that is unlinked now. Read it after unlinking.</summary>
    public long Current => Volatile.Read(ref _current);

    /// <summary>Enters the current epoch.</summary>
    public MapLease Enter()
    {
        while (true)
        {
            long epoch = Volatile.Read(ref _current);
            int slot = (int)(epoch & 1);
            Interlocked.Increment(ref _inside[slot * Stride]);
            // Had the epoch moved between the two, this slot might be taken for empty by the next advance.
            if (Volatile.Read(ref _current) == epoch)
            {
                return new MapLease(this, slot);
            }

            Exit(slot);
        }
    }

    /// <summary>
    /// Advances as far as leases allow and tells whether what was unlinked in <paramref name="epoch"/> is out of everybody's sight.
    /// One caller at a time.
    /// </summary>
    public bool HasPassed(long epoch)
    {
        while (_current < epoch + 2)
        {
            if (Volatile.Read(ref _inside[(int)((_current - 1) & 1) * Stride]) != 0)
            {
                return false;
            }

            Interlocked.Increment(ref _current);
        }

        return true;
    }

    /// <summary>
    /// Completes when everybody of one slot has left, after the call or while it ran. Ask <see cref="HasPassed"/> between this call and the wait: who left
    /// before the call is not waited for.
    /// </summary>
    public Task NextEmptySlotAsync()
    {
        TaskCompletionSource mine = new(TaskCreationOptions.RunContinuationsAsynchronously);
        // The exchange is a full fence, as is the decrement in Exit: either they see this waiter, or the caller sees that they left.
        return (Interlocked.CompareExchange(ref _emptied, mine, null) ?? mine).Task;
    }

    internal void Exit(int slot)
    {
        long left = Interlocked.Decrement(ref _inside[slot * Stride]);
        Debug.Assert(left >= 0);
        if (left == 0 && Volatile.Read(ref _emptied) is { } waiting && Interlocked.CompareExchange(ref _emptied, null, waiting) == waiting)
        {
            waiting.SetResult();
        }
    }
}
