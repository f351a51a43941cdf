using BlockMount.Block.Nodes;
using BlockMount.Block.Options;

namespace BlockMount.Block.Graph;

/// <summary>Gives a node other children that are there already, by name: what would have to be opened is added first, by a command of its own. A part of a transaction.</summary>
internal sealed class ChildReplacement
{
    private readonly GraphTransaction _transaction;

    internal ChildReplacement(GraphTransaction transaction) => _transaction = transaction;

    /// <summary>The child that options within its user's describe: one that came with the user, and that nobody else uses.</summary>
    /// <exception cref="GraphException">There is none, or it is to be another one; in QEMU's words.</exception>
    internal static Node DescribedChild(Node parent, string role, NodeOptions options)
    {
        if (parent.ChildIn(role)?.Child is not { IsMonitorOwned: false, Parents.Count: 1 } child)
        {
            throw FixedOptions.Changed($"{role}.driver");
        }

        return options.NodeName is null ? child : throw FixedOptions.Changed("node-name");
    }

    /// <summary>Lets the edge of that role lead to the named node.</summary>
    internal void Replace(Node parent, string role, string name)
    {
        NodeEdge edge = parent.ChildIn(role) ?? throw FixedOptions.Changed(role);
        Node child = _transaction.Graph.Find(name);
        if (child != edge.Child)
        {
            CheckLoop(parent, role, child);
            _transaction.Move(edge, child);
        }
    }

    /// <summary>The backing node that the options name, or none.</summary>
    internal void ReplaceBacking(FormatNode image, Qcow2NodeOptions options)
    {
        NodeEdge? edge = image.ChildIn(NodeEdge.BackingRole);
        if (options.NoBacking)
        {
            if (edge is not null)
            {
                _transaction.Detach(edge);
            }
        }
        else if (options.Backing?.Name is { } name)
        {
            LeadTo(image, edge, _transaction.Graph.Find(name));
        }
        else if (edge is not null || image.BackingReference is not null)
        {
            throw new GraphException($"backing is missing for '{image.Name}'");
        }
    }

    private void LeadTo(FormatNode image, NodeEdge? edge, Node child)
    {
        if (child == edge?.Child)
        {
            return;
        }

        CheckLoop(image, NodeEdge.BackingRole, child);
        if (edge is null)
        {
            _transaction.Attach(image, NodeEdge.BackingRole, child);
        }
        else
        {
            _transaction.Move(edge, child);
        }
    }

    private static void CheckLoop(Node parent, string role, Node child)
    {
        if (GraphWalk.Below([child]).Contains(parent))
        {
            throw new GraphException($"Making '{child.Name}' a {role} child of '{parent.Name}' would create a cycle");
        }
    }
}
