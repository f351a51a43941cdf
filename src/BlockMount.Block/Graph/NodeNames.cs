using System.Globalization;

namespace BlockMount.Block.Graph;

/// <summary>What nodes may be called (FEATURES Q1), and names for those that nobody has named. One thread at a time.</summary>
internal sealed class NodeNames
{
    private const int LengthMax = 31;

    private int _lastNumber;

    /// <summary>True for a letter, followed by at most 30 letters, digits, dots, underscores and hyphens.</summary>
    internal static bool IsWellFormed(string name) =>
        name.Length > 0 && char.IsAsciiLetter(name[0]) && name.All(c => char.IsAsciiLetterOrDigit(c) || c is '-' or '.' or '_');

    /// <summary>Refuses a name that no node can have, or that is taken.</summary>
    /// <exception cref="GraphException">In QEMU's words.</exception>
    internal static void Check(NodeGraph graph, string name)
    {
        if (!IsWellFormed(name))
        {
            throw new GraphException($"Invalid node-name: '{name}'");
        }

        if (graph.TryFindDevice(name) is not null)
        {
            throw new GraphException($"node-name={name} is conflicting with a device id");
        }

        if (graph.TryFindNode(name) is not null)
        {
            throw new GraphException($"Duplicate nodes with node-name='{name}'");
        }

        if (name.Length > LengthMax)
        {
            throw new GraphException("Node name too long");
        }
    }

    /// <summary>A name that no user can give: "#block001", "#block002", ...</summary>
    internal string Next() => string.Create(CultureInfo.InvariantCulture, $"#block{++_lastNumber:D3}");
}
