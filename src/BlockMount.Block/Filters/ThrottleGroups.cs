using BlockMount.Block.Graph;
using BlockMount.Block.Nodes;

namespace BlockMount.Block.Filters;

/// <summary>The throttle groups of a graph by their names. Control loop only. Owns the groups.</summary>
internal sealed class ThrottleGroups : IDisposable
{
    private readonly Dictionary<string, ThrottleGroup> _groups = [];

    /// <summary>All of them.</summary>
    internal IReadOnlyCollection<ThrottleGroup> All => _groups.Values;

    /// <exception cref="GraphException">There is none of that name.</exception>
    internal ThrottleGroup Find(string name) => _groups.GetValueOrDefault(name) ?? throw new GraphException($"Throttle group '{name}' does not exist");

    /// <summary>Makes a group, or gives it other limits.</summary>
    /// <exception cref="GraphException">The limits contradict each other; nothing was changed.</exception>
    internal ThrottleGroup Set(string name, ThrottleLimits limits, TimeProvider time)
    {
        limits.Check();
        if (!_groups.TryGetValue(name, out ThrottleGroup? group))
        {
            group = new ThrottleGroup(name, time);
            _groups.Add(name, group);
        }

        group.Limits = limits;
        return group;
    }

    /// <param name="nodes">All nodes of the graph.</param>
    /// <exception cref="GraphException">There is none of that name, or one of the nodes uses it.</exception>
    internal void Remove(string name, IReadOnlyList<Node> nodes)
    {
        if (!_groups.TryGetValue(name, out ThrottleGroup? group))
        {
            throw new GraphException($"object '{name}' not found");
        }

        if (nodes.OfType<ThrottleNode>().Any(node => node.Group == group))
        {
            throw new GraphException($"object '{name}' is in use, can not be deleted");
        }

        _ = _groups.Remove(name);
        group.Dispose();
    }

    public void Dispose()
    {
        foreach (ThrottleGroup group in _groups.Values)
        {
            group.Dispose();
        }
    }
}
