using BlockMount.Base;
using BlockMount.Block.Devices;
using BlockMount.Block.Nodes;
using BlockMount.Block.Options;
using BlockMount.Formats;

namespace BlockMount.Block.Graph;

/// <summary>Commands about nodes (FEATURES 2.1). Each is one change: all of it happens or nothing. Errors are <see cref="BlockMountException"/>, in QEMU's words where it has any.</summary>
public static class NodeOperations
{
    /// <summary>blockdev-add: the node stays until it is deleted.</summary>
    public static async ValueTask<Node> AddAsync(ControlScope scope, NodeOptions options)
    {
        Node? added = null;
        await GraphTransaction.RunAsync(scope, async transaction =>
        {
            added = await new NodeFactory(transaction).MakeTopAsync(options);
            transaction.OnCommit(() =>
            {
                added.IsMonitorOwned = true;
                return ValueTask.CompletedTask;
            });
        });
        return added!;
    }

    /// <summary>blockdev-del: closes a node that a command has added and that nobody uses.</summary>
    public static async ValueTask DeleteAsync(ControlScope scope, string nodeName)
    {
        Node node = scope.Graph.TryFindNode(nodeName) ?? throw new GraphException($"Failed to find node with node-name='{nodeName}'");
        if (node.Parents.Any(edge => edge.Parent is BlockDevice))
        {
            throw new GraphException($"Node {nodeName} is in use");
        }

        if (node.Parents.FirstOrDefault(edge => edge.Role == NodeEdge.BackingRole) is { Parent: Node overlay })
        {
            throw new GraphException($"Node '{nodeName}' is busy: node is used as backing hd of '{overlay.Name}'");
        }

        if (!node.IsMonitorOwned)
        {
            throw new GraphException($"Node {nodeName} is not owned by the monitor");
        }

        if (node.Parents.Count > 0)
        {
            throw new GraphException($"Block device {nodeName} is in use");
        }

        await GraphTransaction.RunAsync(scope, transaction =>
        {
            node.IsMonitorOwned = false;
            transaction.OnClean(node.CloseIfUnusedAsync);
            return ValueTask.CompletedTask;
        });
    }

    /// <summary>blockdev-reopen: the nodes get the options anew, those that are not given with their defaults.</summary>
    public static ValueTask ReopenAsync(ControlScope scope, IReadOnlyList<NodeOptions> options) => GraphTransaction.RunAsync(
        scope,
        [.. options.Select(one => (Func<GraphTransaction, ValueTask>)(transaction => NodeReopenOperation.RunAsync(transaction, one)))]);

    /// <summary>block_resize: changes the size of a device's or node's disk, in bytes.</summary>
    public static async ValueTask ResizeAsync(ControlScope scope, string? device, string? nodeName, long size)
    {
        Node node = scope.Graph.Find(device, nodeName);
        if (size < 0)
        {
            throw new GraphException("Parameter 'size' expects a >0 size");
        }

        EdgePermissions resizing = new(NodePermission.Resize, NodePermission.All);
        foreach (NodeEdge edge in node.Parents.Where(edge => !edge.Permissions.Shared.HasFlag(NodePermission.Resize)))
        {
            throw NodePermissions.Conflict(node, ("an unnamed block device", NodeEdge.RootRole, resizing.Held), (edge.Parent.UserDescription, edge.Role));
        }

        if (node.ReadOnly)
        {
            throw new GraphException("Image is read-only");
        }

        using DrainedSection drained = await DrainedSection.BeginAsync(scope, [node]);
        await node.ResizeAsync(size);
    }

    /// <summary>change-backing-file: rewrites what an image's header names; nothing is opened.</summary>
    public static async ValueTask ChangeBackingFileAsync(ControlScope scope, string device, string imageNodeName, string backingFile)
    {
        Node root = scope.Graph.Find(device);
        Node image = scope.Graph.Find(null, imageNodeName);
        if (image.Backing is not { } backing)
        {
            throw new GraphException("not allowing backing file change on an image without a backing file");
        }

        if (!GraphWalk.Below([root]).Contains(image))
        {
            throw new GraphException($"'{device}' and image file are not in the same chain");
        }

        if (image is not FormatNode format)
        {
            throw new GraphException($"Could not change backing file to '{backingFile}'");
        }

        bool wasReadOnly = image.ReadOnly;
        await ChangeReferenceAsync(scope, format, new BackingReference(backingFile, backing.DriverName));
        if (wasReadOnly)
        {
            await GraphTransaction.RunAsync(scope, async transaction =>
            {
                await transaction.DrainAsync(format);
                await NodeReopening.RunAsync(transaction, format, readOnly: true);
            });
        }
    }

    /// <summary>block-set-write-threshold: <paramref name="onExceeded"/> is told once, with the bytes by which a write went beyond <paramref name="threshold"/>; 0 disarms it.</summary>
    public static void SetWriteThreshold(ControlScope scope, string nodeName, long threshold, Action<Node, long, long> onExceeded)
    {
        Node node = scope.Graph.TryFindNode(nodeName) ?? throw new GraphException($"Device '{nodeName}' not found");
        node.SetWriteThreshold(threshold, exceeded => onExceeded(node, threshold, exceeded));
    }

    /// <summary>change: another image behind a device that stays; its exports go on. The device gets the new image's size.</summary>
    /// <param name="top">Opened, and not yet in the graph; closed if it fails.</param>
    public static ValueTask ChangeMediumAsync(ControlScope scope, BlockDevice device, Node top) => GraphTransaction.RunAsync(scope, async transaction =>
    {
        transaction.Adopt(top);
        await transaction.DrainAsync(device.Root);
        if (!device.Root.ReadOnly)
        {
            await device.Root.FlushAsync();
        }

        transaction.Move(device.RootEdge, top);
        transaction.OnCommit(() =>
        {
            device.ForgetFlushFailure();
            return ValueTask.CompletedTask;
        });
    });

    /// <summary>stop: writes through these devices wait; none is under way, and all before are on stable storage, when it returns.</summary>
    /// <exception cref="BlockIOException">A flush failed: then no device is frozen.</exception>
    public static async ValueTask FreezeAsync(IReadOnlyCollection<BlockDevice> devices)
    {
        try
        {
            foreach (BlockDevice device in devices)
            {
                await device.FreezeWritesAsync();
                using Unthrottled unthrottled = Unthrottled.Begin(device.Root);
                await device.FlushAsync();
            }
        }
        catch
        {
            // All or none: 'cont' does nothing where 'stop' has failed.
            Thaw(devices);
            throw;
        }
    }

    /// <summary>cont: writes go on.</summary>
    public static void Thaw(IEnumerable<BlockDevice> devices)
    {
        foreach (BlockDevice device in devices)
        {
            device.ThawWrites();
        }
    }

    private static async ValueTask ChangeReferenceAsync(ControlScope scope, FormatNode image, BackingReference reference)
    {
        await GraphTransaction.RunAsync(scope, async transaction =>
        {
            await transaction.DrainAsync(image);
            await NodeReopening.RunAsync(transaction, image, readOnly: false);
            await image.Driver.SetBackingReferenceAsync(reference);
        });
    }
}
