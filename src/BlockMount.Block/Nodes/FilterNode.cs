using BlockMount.Block.Graph;
using BlockMount.Formats;

namespace BlockMount.Block.Nodes;

/// <summary>
/// A node that shows what its one child shows, and does something on the way. Derived classes override the requests that they have a say in; the rest goes to the child.
/// </summary>
public abstract class FilterNode : Node
{
    private readonly string _role;
    private string _name;

    // Replaced only in a drained section.
    private Node _child;

    /// <summary>Becomes a user of <paramref name="child"/>.</summary>
    /// <param name="role">What the child is called: "file", "image".</param>
    private protected FilterNode(string name, string role, Node child)
    {
        _name = name;
        _role = role;
        _child = child;
        NodeEdge.Attach(this, role, child);
    }

    /// <inheritdoc/>
    public override string Name => _name;

    /// <inheritdoc/>
    public override bool IsFilter => true;

    /// <summary>What the filter stands on.</summary>
    public Node Child => _child;

    /// <inheritdoc/>
    public override string FileName => _child.FileName;

    /// <inheritdoc/>
    public override long Size => _child.Size;

    /// <summary>Refuses writes even though the child would take them. Replaced only in a drained section.</summary>
    internal bool AsksReadOnly { get; set; }

    /// <inheritdoc/>
    public override bool ReadOnly => AsksReadOnly || _child.ReadOnly;

    /// <inheritdoc/>
    public override bool WaitsForWriter => !AsksReadOnly && _child.WaitsForWriter;

    /// <inheritdoc/>
    public override long AllocatedBytes => _child.AllocatedBytes;

    /// <inheritdoc/>
    public override int ClusterSize => _child.ClusterSize;

    /// <inheritdoc/>
    public override Node? Backing => null;

    /// <inheritdoc/>
    public override IInternalSnapshots? Snapshots => _child.Snapshots;

    /// <inheritdoc/>
    public override long IndexBytes => _child.IndexBytes;

    /// <inheritdoc/>
    public override void IndexBelow(long bytes) => _child.IndexBelow(bytes);

    /// <inheritdoc/>
    public override ValueTask ReadAsync(long offset, Memory<byte> buffer) => _child.ReadAsync(offset, buffer);

    /// <inheritdoc/>
    public override ValueTask WriteAsync(long offset, ReadOnlyMemory<byte> buffer) => _child.WriteAsync(offset, buffer);

    /// <inheritdoc/>
    public override ValueTask WriteCompressedAsync(long offset, ReadOnlyMemory<byte> buffer) => _child.WriteCompressedAsync(offset, buffer);

    /// <inheritdoc/>
    public override ValueTask ZeroAsync(long offset, long length, ZeroFlags flags) => _child.ZeroAsync(offset, length, Allowed(flags));

    /// <inheritdoc/>
    public override ValueTask DiscardAsync(long offset, long length) => PassesDiscards ? _child.DiscardAsync(offset, length) : ValueTask.CompletedTask;

    /// <inheritdoc/>
    public override ValueTask FlushAsync() => _child.FlushAsync();

    /// <inheritdoc/>
    public override ValueTask<BlockStatus> StatusAsync(long offset, long length, MapPurpose purpose) => _child.StatusAsync(offset, length, purpose);

    /// <inheritdoc/>
    public override ValueTask ResizeAsync(long size, Preallocation preallocation = Preallocation.Off) => _child.ResizeAsync(size, preallocation);

    /// <inheritdoc/>
    public override ValueTask DisposeAsync() => ReleaseChildrenAsync();

    /// <inheritdoc/>
    internal override ValueTask CopyUpAsync(long offset, long length, Node? bottom) => _child.CopyUpAsync(offset, length, bottom);

    /// <inheritdoc/>
    internal override void Rename(string name) => _name = name;

    /// <inheritdoc/>
    internal override void OnChildReplaced(NodeEdge edge)
    {
        if (edge.Role == _role)
        {
            _child = edge.Child;
        }
    }
}
