using BlockMount.Block.Nodes;

namespace BlockMount.Block.Graph;

/// <summary>Who uses a node: another node, a device, or a job.</summary>
public interface IEdgeUser
{
    /// <summary>In QEMU's words, as "node 'node0'" or "an unnamed block device": the subject of a permission conflict.</summary>
    public string UserDescription { get; }

    /// <summary>The edge leads to another child now. Called in a drained section, on the thread that changes the graph.</summary>
    internal void ChildReplaced(NodeEdge edge);
}

/// <summary>
/// "Parent uses child as its ROLE": the only kind of reference between parts of the graph. A node lives as long as an edge leads to it or the monitor owns it.
/// Changed under the graph's mutex only (README.md); the lists that edges are in are replaced as a whole, so that they can be read at any time.
/// </summary>
public sealed class NodeEdge
{
    /// <summary>Role of the file that a format, or a filter, stands on.</summary>
    public const string FileRole = "file";

    /// <summary>Role of what shows through where a node holds nothing.</summary>
    public const string BackingRole = "backing";

    /// <summary>Role of the file that holds the guest's data for an image.</summary>
    public const string DataFileRole = "data-file";

    /// <summary>Role of a device's active layer.</summary>
    public const string RootRole = "root";

    private Node _child;

    private NodeEdge(IEdgeUser parent, string role, Node child, EdgePermissions permissions)
    {
        Parent = parent;
        Role = role;
        _child = child;
        Permissions = permissions;
    }

    /// <summary>The user.</summary>
    public IEdgeUser Parent { get; }

    /// <summary>What the child is to its user: "file", "backing", "data-file", "root".</summary>
    public string Role { get; }

    /// <summary>The used node.</summary>
    public Node Child => Volatile.Read(ref _child);

    /// <summary>What the user may do with the child, and what it lets others do.</summary>
    public EdgePermissions Permissions { get; internal set; }

    /// <summary>Makes <paramref name="parent"/> a user of <paramref name="child"/>. The child must be open.</summary>
    internal static NodeEdge Attach(IEdgeUser parent, string role, Node child, EdgePermissions permissions = default)
    {
        NodeEdge edge = new(parent, role, child, permissions);
        child.AddParent(edge);
        (parent as Node)?.AddChild(edge);
        return edge;
    }

    /// <summary>Leads to <paramref name="child"/> from now on. The child of before is not closed: that is the caller's to decide.</summary>
    internal void MoveTo(Node child)
    {
        Node before = _child;
        if (before == child)
        {
            return;
        }

        before.RemoveParent(this);
        Volatile.Write(ref _child, child);
        child.AddParent(this);
        Parent.ChildReplaced(this);
    }

    /// <summary>Ends the use without closing the child.</summary>
    internal void Detach()
    {
        _child.RemoveParent(this);
        (Parent as Node)?.RemoveChild(this);
    }

    /// <summary>Puts an edge back that was <see cref="Detach"/>ed.</summary>
    internal void Reattach()
    {
        _child.AddParent(this);
        (Parent as Node)?.AddChild(this);
        Parent.ChildReplaced(this);
    }
}
