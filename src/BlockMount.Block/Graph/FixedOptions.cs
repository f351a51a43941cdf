using BlockMount.Block.Nodes;
using BlockMount.Block.Options;

namespace BlockMount.Block.Graph;

/// <summary>The options that a node keeps as long as it lives: blockdev-reopen has to repeat them.</summary>
internal static class FixedOptions
{
    /// <summary>Refuses options that would change what cannot be changed, in QEMU's words.</summary>
    /// <exception cref="GraphException">They would.</exception>
    internal static void Check(Node node, NodeOptions options)
    {
        if (node is FileNode && options is not FileNodeOptions)
        {
            throw Missing("filename");
        }

        if (node.DriverName != options.Driver)
        {
            throw Changed("driver");
        }

        if (options is FileNodeOptions file && file.FileName != node.FileName)
        {
            throw Changed("filename");
        }

        if (node.AddedWith is { } before)
        {
            CheckValues(Of(before), Of(options));
        }
    }

    /// <summary>The refusal of an option that differs.</summary>
    internal static GraphException Changed(string name) => new($"Cannot change the option '{name}'");

    private static GraphException Missing(string name) => new($"Option '{name}' cannot be reset to its default value");

    private static void CheckValues((string Name, object? Value)[] before, (string Name, object? Value)[] now)
    {
        foreach (((string name, object? old), (_, object? asked)) in before.Zip(now))
        {
            if (!Equals(old, asked))
            {
                throw asked is null ? Missing(name) : Changed(name);
            }
        }
    }

    // Of the same driver: the same names in the same order. Null: not given.
    private static (string Name, object? Value)[] Of(NodeOptions options) => options switch
    {
        FileNodeOptions file =>
        [
            ("locking", file.Lock), ("aio", file.IsNative ? "native" : file.Engine), ("force-share", file.ForceShare ? true : null),
        ],
        NullNodeOptions empty => [("size", empty.Size), ("latency-ns", empty.Latency), ("read-zeroes", empty.ReadZeroes)],
        _ => [],
    };
}
