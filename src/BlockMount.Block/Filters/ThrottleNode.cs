using BlockMount.Block.Graph;
using BlockMount.Block.Nodes;
using BlockMount.Formats;

namespace BlockMount.Block.Filters;

/// <summary>The driver "throttle": requests go through as fast as their group allows. A drain lets those that wait through at once (FEATURES N4). Any thread.</summary>
public sealed class ThrottleNode : FilterNode
{
    // Replaced only in a drained section.
    private ThrottleGroup _group;

    private int _drains;

    /// <summary>Becomes a user of <paramref name="child"/>; the group is the graph's.</summary>
    public ThrottleNode(string name, Node child, ThrottleGroup group)
        : base(name, NodeEdge.FileRole, child) => _group = group;

    /// <inheritdoc/>
    public override string DriverName => "throttle";

    /// <summary>Whose limits count.</summary>
    public ThrottleGroup Group
    {
        get => _group;
        internal set => _group = value;
    }

    /// <summary>Somebody waits for this node's requests. Exact under the group's lock only.</summary>
    internal bool IsDrained => Volatile.Read(ref _drains) > 0;

    /// <inheritdoc/>
    public override async ValueTask ReadAsync(long offset, Memory<byte> buffer)
    {
        await _group.AdmitAsync(this, isWrite: false, buffer.Length);
        await Child.ReadAsync(offset, buffer);
    }

    /// <inheritdoc/>
    public override async ValueTask WriteAsync(long offset, ReadOnlyMemory<byte> buffer)
    {
        await _group.AdmitAsync(this, isWrite: true, buffer.Length);
        await Child.WriteAsync(offset, buffer);
    }

    /// <inheritdoc/>
    public override async ValueTask WriteCompressedAsync(long offset, ReadOnlyMemory<byte> buffer)
    {
        await _group.AdmitAsync(this, isWrite: true, buffer.Length);
        await Child.WriteCompressedAsync(offset, buffer);
    }

    /// <inheritdoc/>
    public override async ValueTask ZeroAsync(long offset, long length, ZeroFlags flags)
    {
        await _group.AdmitAsync(this, isWrite: true, length);
        await Child.ZeroAsync(offset, length, Allowed(flags));
    }

    /// <inheritdoc/>
    public override async ValueTask DiscardAsync(long offset, long length)
    {
        if (PassesDiscards)
        {
            await _group.AdmitAsync(this, isWrite: true, length);
            await Child.DiscardAsync(offset, length);
        }
    }

    /// <inheritdoc/>
    internal override void BeginDrain()
    {
        // First the mark: who takes the group's lock after the release sees it, and who took it before is released.
        Interlocked.Increment(ref _drains);
        _group.Release(this);
    }

    /// <inheritdoc/>
    internal override void EndDrain() => Interlocked.Decrement(ref _drains);
}
