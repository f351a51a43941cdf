using BlockMount.Block.Nodes;

namespace BlockMount.Block.Graph;

/// <summary>Nodes that are open for reading because nobody wrote (option auto-read-only) are opened for writing when somebody is going to. Control loop only.</summary>
internal static class WriterArrival
{
    /// <summary>Opens what the users that the graph has now write to; undone with the transaction.</summary>
    /// <exception cref="Base.BlockMountException">It cannot be opened for writing.</exception>
    internal static async ValueTask RunAsync(GraphTransaction transaction)
    {
        if (!transaction.Graph.Nodes.Any(node => node is { AutoReadOnly: true, ReadOnly: true }))
        {
            return;
        }

        // Users first: an image that is opened for writing opens its file as well.
        foreach (Node node in NodePermissions.Restore(transaction.Graph.Nodes))
        {
            if (node.AutoReadOnly && NodePermissions.Cumulative(node).Held.HasFlag(NodePermission.Write))
            {
                await OpenForWritingAsync(transaction, node);
            }
        }
    }

    /// <summary>Opens a node that <see cref="Node.WaitsForWriter"/> for writing; nothing happens to others.</summary>
    internal static async ValueTask OpenForWritingAsync(GraphTransaction transaction, Node node)
    {
        while (node is FilterNode filter)
        {
            node = filter.Child;
        }

        if (!node.WaitsForWriter)
        {
            return;
        }

        await transaction.DrainAsync(node);
        switch (node)
        {
            case FormatNode image:
                await NodeReopening.RunAsync(transaction, image, readOnly: false);
                break;
            case FileNode file:
                await NodeReopening.ReopenFileAndImageAsync(transaction, file, readOnly: false);
                break;
            default:
                break;
        }
    }
}
