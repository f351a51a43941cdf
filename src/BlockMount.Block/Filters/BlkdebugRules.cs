using BlockMount.Base;

namespace BlockMount.Block.Filters;

/// <summary>Kinds of requests that a rule can fail.</summary>
[Flags]
public enum BlkdebugRequest
{
    /// <summary>Reads.</summary>
    Read = 1,

    /// <summary>Writes.</summary>
    Write = 2,

    /// <summary>Zeroes.</summary>
    WriteZeroes = 4,

    /// <summary>Discards.</summary>
    Discard = 8,

    /// <summary>Flushes.</summary>
    Flush = 16,

    /// <summary>Block status.</summary>
    BlockStatus = 32,

    /// <summary>What a rule fails that names no kind.</summary>
    Default = Read | Write | WriteZeroes | Discard | Flush,
}

/// <summary>inject-error: requests fail.</summary>
/// <param name="Event">The event that arms the rule; "none": it is always armed.</param>
public sealed record InjectError(string Event)
{
    /// <summary>Only in this state; 0 for any.</summary>
    public int State { get; init; }

    /// <summary>What fails.</summary>
    public BlkdebugRequest Requests { get; init; } = BlkdebugRequest.Default;

    /// <summary>With what.</summary>
    public Errno Errno { get; init; } = Errno.EIO;

    /// <summary>Only requests that touch this sector of 512 bytes; -1 for all.</summary>
    public long Sector { get; init; } = -1;

    /// <summary>The rule is gone when it has fired.</summary>
    public bool Once { get; init; }
}

/// <summary>set-state: an event moves the state machine.</summary>
/// <param name="Event">The event.</param>
/// <param name="State">Only in this state; 0 for any.</param>
/// <param name="NewState">The state from then on.</param>
public sealed record SetState(string Event, int State, int NewState);

/// <summary>
/// The state machine of a blkdebug node. It begins in state 1. An event arms the error rules that name it, in place of those armed before, then moves the state; it may also stop whoever caused it.
/// Any thread.
/// </summary>
internal sealed class BlkdebugRules
{
    /// <summary>The events that this program has: what happens to a file. QEMU has more, which its qcow2 driver causes.</summary>
    internal static readonly IReadOnlyList<string> Events = ["none", "read_aio", "write_aio", "flush_to_disk", "pwritev", "pwritev_zero", "pwritev_done"];

    private readonly Lock _gate = new();
    private readonly List<InjectError> _errors;
    private readonly List<SetState> _states;

    // All guarded by _gate.
    private readonly List<InjectError> _armed = [];
    private readonly List<(string Event, string Tag)> _breakpoints = [];
    private readonly Dictionary<string, TaskCompletionSource> _suspended = [];
    private int _state = 1;

    internal BlkdebugRules(IEnumerable<InjectError> errors, IEnumerable<SetState> states)
    {
        _errors = [.. errors];
        _states = [.. states];
    }

    /// <summary>Something happens. Waits if a breakpoint says so.</summary>
    internal ValueTask OccurredAsync(string name)
    {
        lock (_gate)
        {
            InjectError[] hit = [.. _errors.Where(rule => rule.Event == name && (rule.State == 0 || rule.State == _state))];
            if (hit.Length > 0)
            {
                _armed.Clear();
                _armed.AddRange(hit);
            }

            int state = _state;
            foreach (SetState rule in _states.Where(rule => rule.Event == name && (rule.State == 0 || rule.State == state)))
            {
                _state = rule.NewState;
            }

            int stop = _breakpoints.FindIndex(entry => entry.Event == name);
            if (stop < 0)
            {
                return ValueTask.CompletedTask;
            }

            TaskCompletionSource resumed = new(TaskCreationOptions.RunContinuationsAsynchronously);
            _suspended[_breakpoints[stop].Tag] = resumed;
            _breakpoints.RemoveAt(stop);
            return new ValueTask(resumed.Task);
        }
    }

    /// <summary>Fails a request that a rule says must fail.</summary>
    /// <exception cref="BlockIOException">The rule's error.</exception>
    internal void Check(BlkdebugRequest kind, long offset, long length, string name)
    {
        InjectError? rule;
        lock (_gate)
        {
            rule = _armed.Concat(_errors.Where(rule => rule.Event == "none" && (rule.State == 0 || rule.State == _state)))
                .FirstOrDefault(rule => rule.Requests.HasFlag(kind) && Touches(rule.Sector, offset, length));
            if (rule is { Once: true })
            {
                _ = _armed.Remove(rule);
                _ = _errors.Remove(rule);
            }
        }

        if (rule is not null)
        {
            throw new BlockIOException(rule.Errno, $"{kind} of {length} bytes at {offset} of '{name}', which blkdebug lets fail");
        }
    }

    internal void Break(string name, string tag)
    {
        lock (_gate)
        {
            _breakpoints.Add((name, tag));
        }
    }

    /// <summary>False if nobody is stopped there.</summary>
    internal bool Resume(string tag)
    {
        lock (_gate)
        {
            // Continuations run elsewhere, not under the lock.
            return _suspended.Remove(tag, out TaskCompletionSource? resumed) && resumed.TrySetResult();
        }
    }

    internal bool IsSuspended(string tag)
    {
        lock (_gate)
        {
            return _suspended.ContainsKey(tag);
        }
    }

    private static bool Touches(long sector, long offset, long length) =>
        sector < 0 || length == 0 || (sector * 512 < offset + length && offset < (sector + 1) * 512);
}
