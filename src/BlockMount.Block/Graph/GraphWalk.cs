using BlockMount.Block.Devices;
using BlockMount.Block.Nodes;

namespace BlockMount.Block.Graph;

/// <summary>Ways through the graph. Loops, because chains may be deep. Exact under the graph's mutex.</summary>
internal static class GraphWalk
{
    /// <summary>The nodes and everything that they stand on, each once, users before what they use.</summary>
    internal static IReadOnlyList<Node> Below(IEnumerable<Node> nodes)
    {
        List<Node> found = [];
        HashSet<Node> seen = [];
        Stack<Node> left = new(nodes.Reverse());
        while (left.TryPop(out Node? node))
        {
            if (seen.Add(node))
            {
                found.Add(node);
                foreach (NodeEdge edge in node.Children.Reverse())
                {
                    left.Push(edge.Child);
                }
            }
        }

        return found;
    }

    /// <summary>The node, and what shows through below it, through filters.</summary>
    internal static IEnumerable<Node> Chain(Node? node)
    {
        for (; node is not null; node = node is FilterNode filter ? filter.Child : node.Backing)
        {
            yield return node;
        }
    }

    /// <summary>The nodes and everything that stands on them, each once.</summary>
    internal static IReadOnlyList<Node> Above(IEnumerable<Node> nodes)
    {
        List<Node> found = [];
        HashSet<Node> seen = [];
        Stack<Node> left = new(nodes);
        while (left.TryPop(out Node? node))
        {
            if (seen.Add(node))
            {
                found.Add(node);
                foreach (NodeEdge edge in node.Parents)
                {
                    if (edge.Parent is Node parent)
                    {
                        left.Push(parent);
                    }
                }
            }
        }

        return found;
    }

    /// <summary>The devices whose requests can reach one of the nodes.</summary>
    internal static IReadOnlyList<BlockDevice> DevicesAbove(IEnumerable<Node> nodes) =>
        [.. Above(nodes).SelectMany(node => node.Parents).Select(edge => edge.Parent).OfType<BlockDevice>().Distinct()];
}
