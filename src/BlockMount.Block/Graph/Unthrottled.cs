using BlockMount.Block.Nodes;

namespace BlockMount.Block.Graph;

/// <summary>
/// A time in which nothing below some nodes holds requests back on purpose, because a change of the graph waits for them (FEATURES N4): a throttled image that is flushed, opened or closed.
/// What goes through counts all the same, and is paid for by those who come later. Any thread; may be nested. Dispose exactly once.
/// </summary>
internal sealed class Unthrottled : IDisposable
{
    private readonly IReadOnlyList<Node> _nodes;

    private Unthrottled(IReadOnlyList<Node> nodes) => _nodes = nodes;

    internal static Unthrottled Begin(params IEnumerable<Node> nodes)
    {
        Unthrottled begun = new(GraphWalk.Below(nodes));
        foreach (Node node in begun._nodes)
        {
            node.BeginDrain();
        }

        return begun;
    }

    /// <summary>Requests may be held back again.</summary>
    public void Dispose()
    {
        foreach (Node node in _nodes)
        {
            node.EndDrain();
        }
    }
}
