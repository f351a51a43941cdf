using BlockMount.Block.Graph;
using BlockMount.Block.Nodes;
using BlockMount.Formats;

namespace BlockMount.Block.Filters;

/// <summary>
/// The driver "blkdebug": lets requests fail, or stop, as its rules say (FEATURES D11). Mostly between a format and its file, where each request is an event: read_aio, write_aio, flush_to_disk,
/// and pwritev, pwritev_zero and pwritev_done around writes. For tests. Any thread.
/// </summary>
public sealed class BlkdebugNode : FilterNode
{
    /// <summary>Role of the child.</summary>
    public const string ImageRole = "image";

    private readonly BlkdebugRules _rules;

    /// <summary>Becomes a user of <paramref name="image"/>.</summary>
    /// <exception cref="GraphException">A rule names an event that there is not.</exception>
    public BlkdebugNode(string name, Node image, IEnumerable<InjectError> errors, IEnumerable<SetState> states)
        : this(name, image, NewRules(errors, states))
    {
    }

    private BlkdebugNode(string name, Node image, BlkdebugRules rules)
        : base(name, ImageRole, image) => _rules = rules;

    /// <inheritdoc/>
    public override string DriverName => "blkdebug";

    /// <inheritdoc/>
    public override string FileName => Child.FileName;

    /// <summary>The next request that causes the event stops there, until <see cref="Resume"/>.</summary>
    /// <exception cref="GraphException">There is no such event.</exception>
    public void Break(string name, string tag)
    {
        CheckEvent(name);
        _rules.Break(name, tag);
    }

    /// <summary>Lets a request go on. False if none is stopped under that tag.</summary>
    public bool Resume(string tag) => _rules.Resume(tag);

    /// <summary>True if a request is stopped under that tag.</summary>
    public bool IsSuspended(string tag) => _rules.IsSuspended(tag);

    /// <inheritdoc/>
    public override async ValueTask ReadAsync(long offset, Memory<byte> buffer)
    {
        await _rules.OccurredAsync("read_aio");
        _rules.Check(BlkdebugRequest.Read, offset, buffer.Length, FileName);
        await Child.ReadAsync(offset, buffer);
    }

    /// <inheritdoc/>
    public override async ValueTask WriteAsync(long offset, ReadOnlyMemory<byte> buffer)
    {
        await _rules.OccurredAsync("write_aio");
        await _rules.OccurredAsync("pwritev");
        _rules.Check(BlkdebugRequest.Write, offset, buffer.Length, FileName);
        await Child.WriteAsync(offset, buffer);
        await _rules.OccurredAsync("pwritev_done");
    }

    /// <inheritdoc/>
    public override async ValueTask ZeroAsync(long offset, long length, ZeroFlags flags)
    {
        await _rules.OccurredAsync("pwritev_zero");
        _rules.Check(BlkdebugRequest.WriteZeroes, offset, length, FileName);
        await Child.ZeroAsync(offset, length, Allowed(flags));
        await _rules.OccurredAsync("pwritev_done");
    }

    /// <inheritdoc/>
    public override ValueTask DiscardAsync(long offset, long length)
    {
        if (!PassesDiscards)
        {
            return ValueTask.CompletedTask;
        }

        _rules.Check(BlkdebugRequest.Discard, offset, length, FileName);
        return Child.DiscardAsync(offset, length);
    }

    /// <inheritdoc/>
    public override async ValueTask FlushAsync()
    {
        await _rules.OccurredAsync("flush_to_disk");
        _rules.Check(BlkdebugRequest.Flush, 0, 0, FileName);
        await Child.FlushAsync();
    }

    /// <inheritdoc/>
    public override ValueTask<BlockStatus> StatusAsync(long offset, long length, MapPurpose purpose)
    {
        _rules.Check(BlkdebugRequest.BlockStatus, offset, length, FileName);
        return Child.StatusAsync(offset, length, purpose);
    }

    private static BlkdebugRules NewRules(IEnumerable<InjectError> errors, IEnumerable<SetState> states)
    {
        BlkdebugRules rules = new(errors, states);
        foreach (string name in errors.Select(rule => rule.Event).Concat(states.Select(rule => rule.Event)))
        {
            CheckEvent(name);
        }

        return rules;
    }

    private static void CheckEvent(string name)
    {
        if (!BlkdebugRules.Events.Contains(name))
        {
            throw new GraphException($"Invalid event name '{name}'", $"There are {string.Join(", ", BlkdebugRules.Events)}");
        }
    }
}
