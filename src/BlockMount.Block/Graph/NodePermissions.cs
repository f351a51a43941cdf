using BlockMount.Block.Filters;
using BlockMount.Block.Nodes;

namespace BlockMount.Block.Graph;

/// <summary>
/// Who may do what with a node. Users of the graph (devices) ask for what they need; what a node asks of those below follows from what is asked of it, and so on down. Two users of a node
/// conflict when one holds what the other does not share. Control loop only.
/// </summary>
public static class NodePermissions
{
    private static readonly (NodePermission Permission, string Name)[] s_names =
    [
        (NodePermission.ConsistentRead, "consistent read"),
        (NodePermission.Write, "write"),
        (NodePermission.WriteUnchanged, "write unchanged"),
        (NodePermission.Resize, "resize"),
    ];

    /// <summary>The names as they stand in messages: "consistent read, write".</summary>
    public static string Describe(NodePermission permissions) =>
        string.Join(", ", s_names.Where(entry => permissions.HasFlag(entry.Permission)).Select(entry => entry.Name));

    /// <summary>What all users of a node together hold, and what every one of them shares.</summary>
    public static EdgePermissions Cumulative(Node node)
    {
        NodePermission held = NodePermission.None;
        NodePermission shared = NodePermission.All;
        foreach (NodeEdge edge in node.Parents)
        {
            held |= edge.Permissions.Held;
            shared &= edge.Permissions.Shared;
        }

        return new EdgePermissions(held, shared);
    }

    /// <summary>Works out anew what every node asks of those below it, and looks for conflicts.</summary>
    /// <param name="nodes">All nodes of the graph.</param>
    /// <exception cref="GraphException">Two users conflict, or a read-only node is to be written.</exception>
    internal static void Refresh(IReadOnlyList<Node> nodes)
    {
        foreach (Node node in Restore(nodes))
        {
            Check(node);
        }
    }

    /// <summary>The same for a graph that is known to have no conflicts, because it had none before.</summary>
    /// <returns>The nodes, users before what they use.</returns>
    internal static IReadOnlyList<Node> Restore(IReadOnlyList<Node> nodes)
    {
        IReadOnlyList<Node> ordered = UsersFirst(nodes);
        foreach (Node node in ordered)
        {
            EdgePermissions asked = Cumulative(node);
            foreach (NodeEdge edge in node.Children)
            {
                edge.Permissions = ForChild(node, edge.Role, asked);
            }
        }

        return ordered;
    }

    /// <summary>The refusal of a user, and why.</summary>
    internal static GraphException Conflict(Node node, (string Who, string Role, NodePermission Needs) user, (string Who, string Role) other) => new(
        $"Permission conflict on node '{node.Name}': permissions '{Describe(user.Needs)}' are both required by " +
        $"{user.Who} (uses node '{node.Name}' as '{user.Role}' child) and unshared by {other.Who} (uses node '{node.Name}' as '{other.Role}' child).");

    /// <summary>What a node asks of a child, when its own users ask <paramref name="asked"/> of it.</summary>
    private static EdgePermissions ForChild(Node node, string role, EdgePermissions asked)
    {
        if (role == NodeEdge.BackingRole)
        {
            // Only read; and if our users bear changes, they bear them from below, too.
            NodePermission changes = asked.Shared.HasFlag(NodePermission.Write) ? NodePermission.Write | NodePermission.Resize : NodePermission.None;
            return new EdgePermissions(
                asked.Held & NodePermission.ConsistentRead, NodePermission.ConsistentRead | NodePermission.WriteUnchanged | changes);
        }

        if (node is CopyOnReadNode)
        {
            // It writes what is there already, and bears others that do.
            return new EdgePermissions(asked.Held | NodePermission.WriteUnchanged, asked.Shared | NodePermission.WriteUnchanged);
        }

        if (node.IsFilter || node.DriverName == "raw")
        {
            return asked;
        }

        // A format changes its metadata whether its guest writes or not, and nobody else may.
        NodePermission metadata = node.ReadOnly ? NodePermission.None : NodePermission.Write | NodePermission.Resize;
        return new EdgePermissions(
            asked.Held | NodePermission.ConsistentRead | metadata,
            (asked.Shared | NodePermission.WriteUnchanged) & ~(NodePermission.Write | NodePermission.Resize));
    }

    private static void Check(Node node)
    {
        // The latest first, as QEMU: the newcomer is the one that asks.
        NodeEdge[] parents = [.. node.Parents.Reverse()];
        foreach (NodeEdge one in parents)
        {
            foreach (NodeEdge other in parents.Where(edge => edge != one))
            {
                CheckPair(
                    node,
                    (one.Parent.UserDescription, one.Role, one.Permissions),
                    (other.Parent.UserDescription, other.Role, other.Permissions));
            }
        }

        CheckWritable(node, Cumulative(node).Held);
    }

    private static void CheckPair(
        Node node, (string Who, string Role, EdgePermissions Permissions) holder, (string Who, string Role, EdgePermissions Permissions) other)
    {
        NodePermission conflict = holder.Permissions.Held & ~other.Permissions.Shared;
        if (conflict != NodePermission.None)
        {
            throw Conflict(node, (holder.Who, holder.Role, conflict), (other.Who, other.Role));
        }
    }

    private static void CheckWritable(Node node, NodePermission held)
    {
        if (node.ReadOnly && (held & (NodePermission.Write | NodePermission.WriteUnchanged)) != NodePermission.None)
        {
            throw new GraphException("Block node is read-only");
        }
    }

    private static List<Node> UsersFirst(IReadOnlyList<Node> nodes)
    {
        HashSet<Node> all = [.. nodes];
        Dictionary<Node, int> usersLeft = nodes.ToDictionary(node => node, node => node.Parents.Count(edge => edge.Parent is Node user && all.Contains(user)));
        Queue<Node> free = new(nodes.Where(node => usersLeft[node] == 0));
        List<Node> ordered = [];
        while (free.TryDequeue(out Node? node))
        {
            ordered.Add(node);
            foreach (NodeEdge edge in node.Children)
            {
                if (all.Contains(edge.Child) && --usersLeft[edge.Child] == 0)
                {
                    free.Enqueue(edge.Child);
                }
            }
        }

        return ordered;
    }
}
