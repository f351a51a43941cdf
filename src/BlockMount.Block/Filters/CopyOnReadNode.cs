using BlockMount.Block.Graph;
using BlockMount.Block.Nodes;

namespace BlockMount.Block.Filters;

/// <summary>
/// The driver "copy-on-read": what is read and shows through from a backing node is written into the image below first, so that it is found there from then on (FEATURES D6). Whole clusters are
/// copied; zeros are left where they are, because an image that does not hold them reads as zeros without its backing node, too. A read whose copy fails fails. Any thread.
/// </summary>
public sealed class CopyOnReadNode : FilterNode
{
    private readonly Node? _bottom;

    /// <summary>Becomes a user of <paramref name="child"/>.</summary>
    /// <param name="bottom">The lowest node of the chain that is copied from; null: all of them. Once it has left the chain nothing is copied.</param>
    public CopyOnReadNode(string name, Node child, Node? bottom)
        : base(name, NodeEdge.FileRole, child) => _bottom = bottom;

    /// <inheritdoc/>
    public override string DriverName => "copy-on-read";

    /// <inheritdoc/>
    public override async ValueTask ReadAsync(long offset, Memory<byte> buffer)
    {
        // First up, then read: whoever writes in between is seen, and what is read is in the image.
        await Child.CopyUpAsync(offset, buffer.Length, _bottom);
        await Child.ReadAsync(offset, buffer);
    }
}
