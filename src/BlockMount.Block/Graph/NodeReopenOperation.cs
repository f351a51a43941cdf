using BlockMount.Block.Filters;
using BlockMount.Block.Nodes;
using BlockMount.Block.Options;
using BlockMount.Formats.Qcow2;

namespace BlockMount.Block.Graph;

/// <summary>
/// blockdev-reopen (FEATURES Q2) of a node, and of those below it that are described within its options: what may change is read-only, cache, discard, detect-zeroes, the driver's own options, the
/// file and the backing node. A part of a transaction. Control loop only.
/// </summary>
internal sealed class NodeReopenOperation
{
    private readonly GraphTransaction _transaction;
    private readonly ChildReplacement _children;

    private NodeReopenOperation(GraphTransaction transaction)
    {
        _transaction = transaction;
        _children = new ChildReplacement(transaction);
    }

    internal static ValueTask RunAsync(GraphTransaction transaction, NodeOptions options)
    {
        string name = options.NodeName ?? throw new GraphException("node-name not specified");
        Node node = transaction.Graph.TryFindNode(name) ?? throw new GraphException($"Failed to find node with node-name='{name}'");
        return new NodeReopenOperation(transaction).ReopenAsync(node, options, default);
    }

    private async ValueTask ReopenAsync(Node node, NodeOptions options, InheritedOptions above)
    {
        InheritedOptions mine = Check(node, options, above, parent: null);
        await _transaction.DrainAsync(node);
        SetOptions(node, options, mine);
        switch (options, node)
        {
            case (Qcow2NodeOptions qcow2, FormatNode image):
                await ReopenImageAsync(image, qcow2, mine);
                break;
            case (RawNodeOptions raw, FormatNode image):
                await NodeReopening.RunAsync(
                    _transaction,
                    image,
                    StaysReadOnly(image, mine),
                    settings => settings with { RawOffset = raw.Offset, RawSize = raw.Size },
                    () => ReopenChildAsync(image, NodeEdge.FileRole, raw.File, mine));
                break;
            case (FileNodeOptions file, FileNode host):
                await NodeReopening.ReopenFileAndImageAsync(_transaction, host, StaysReadOnly(host, mine), open => Change(open, file, mine));
                break;
            case (NullNodeOptions, NullNode empty):
                if (mine.ReadOnly != empty.ReadOnly)
                {
                    throw FixedOptions.Changed("read-only");
                }

                break;
            case (ThrottleNodeOptions throttle, ThrottleNode filter):
                await ReopenChildAsync(filter, NodeEdge.FileRole, throttle.File, mine);
                ReplaceGroup(filter, throttle.Group);
                break;
            default:
                throw new GraphException($"Block format '{node.DriverName}' used by node '{node.Name}' does not support reopening files");
        }
    }

    // Before anything is drained. The users of a node bear that it becomes read-only, except the parent that is being reopened, too.
    private InheritedOptions Check(Node node, NodeOptions options, InheritedOptions above, Node? parent)
    {
        FixedOptions.Check(node, options);
        NodeFactory.CheckOptions(_transaction.Graph, options);
        if (options is FileNodeOptions { IsNative: true } && !above.With(options).Direct)
        {
            throw NodeFactory.NativeNeedsDirect();
        }

        InheritedOptions mine = above.With(options);
        bool written = node.Parents.Any(edge => edge.Parent != parent && edge.Permissions.Held.HasFlag(NodePermission.Write));
        return mine.ReadOnly && (written || (parent is not null && !above.ReadOnly))
            ? throw new GraphException($"Read-only block node '{node.Name}' cannot support read-write users")
            : mine;
    }

    private async ValueTask ReopenImageAsync(FormatNode image, Qcow2NodeOptions options, InheritedOptions mine)
    {
        if (options.EncryptionFormat is { } format)
        {
            throw NodeFactory.NotEncrypted(format);
        }

        await ReopenBackingAsync(image, options, mine);
        await NodeReopening.RunAsync(
            _transaction,
            image,
            StaysReadOnly(image, mine),
            change: settings => settings with { Qcow2 = Change(settings.Qcow2, options, mine.Discard, image) },
            rewire: async () =>
            {
                await ReopenChildAsync(image, NodeEdge.FileRole, options.File, mine);
                if (options.DataFile is { } data)
                {
                    await ReopenChildAsync(image, NodeEdge.DataFileRole, data, mine);
                }
            });
    }

    private async ValueTask ReopenBackingAsync(FormatNode image, Qcow2NodeOptions options, InheritedOptions mine)
    {
        if (options.Backing?.Options is not { } inside)
        {
            _children.ReplaceBacking(image, options);
            return;
        }

        Node child = ChildReplacement.DescribedChild(image, NodeEdge.BackingRole, inside);
        await ReopenAsync(child, inside, mine with { ReadOnly = true, Writer = WriterAbove.None });
    }

    // A file that stands below an image whose driver is closed at the moment: that opens it next.
    private async ValueTask ReopenChildAsync(Node parent, string role, ChildOption option, InheritedOptions mine)
    {
        if (option.Options is not { } options)
        {
            _children.Replace(parent, role, option.Name!);
            return;
        }

        Node child = ChildReplacement.DescribedChild(parent, role, options);
        if (child is not FileNode host)
        {
            await ReopenAsync(child, options, mine);
            return;
        }

        InheritedOptions its = Check(host, options, mine, parent);
        SetOptions(host, options, its);
        await NodeReopening.ReopenFileAsync(_transaction, host, its.ReadOnly, open => Change(open, (FileNodeOptions)options, its));
    }

    // auto-read-only: who comes to write opens it.
    private static bool StaysReadOnly(Node node, InheritedOptions mine) =>
        mine.ReadOnly || (mine.AutoReadOnly && node.ReadOnly && !NodePermissions.Cumulative(node).Held.HasFlag(NodePermission.Write));

    private static Storage.StorageOpenOptions Change(Storage.StorageOpenOptions open, FileNodeOptions options, InheritedOptions mine) => open with
    {
        Direct = mine.Direct,
        NoFlush = mine.NoFlush,
        ForceShare = mine.ForceShare,
        Engine = options.Engine ?? open.Engine,
    };

    private static Qcow2OpenOptions Change(Qcow2OpenOptions open, Qcow2NodeOptions options, bool discard, FormatNode image) => options.Runtime.ApplyTo(open with
    {
        CacheBytes = options.Runtime.CacheBytes ?? open.CacheBytes,
        DiscardToHost = discard && image.ChildIn(NodeEdge.FileRole)!.Child.PassesDiscards,
        PassDiscardSnapshot = discard,
        PassDiscardOther = false,
        DiscardNoUnref = false,
        LazyRefcounts = null,
    });

    private void SetOptions(Node node, NodeOptions options, InheritedOptions mine)
    {
        (bool discards, bool auto, NodeOptions? added) = (node.PassesDiscards, node.AutoReadOnly, node.AddedWith);
        DetectZeroes zeroes = (node as FormatNode)?.DetectZeroes ?? DetectZeroes.Off;
        bool asks = node is FilterNode { AsksReadOnly: true };
        Set(node, options, (mine.Discard, mine is { AutoReadOnly: true, ReadOnly: false }, options.DetectZeroes, mine.ReadOnly));
        _transaction.OnAbort(() =>
        {
            Set(node, added, (discards, auto, zeroes, asks));
            return ValueTask.CompletedTask;
        });
    }

    private static void Set(Node node, NodeOptions? added, (bool Discards, bool Auto, DetectZeroes Zeroes, bool AsksReadOnly) values)
    {
        node.AddedWith = added;
        node.PassesDiscards = values.Discards;
        node.AutoReadOnly = values.Auto;
        if (node is FormatNode image)
        {
            image.DetectZeroes = values.Zeroes;
        }

        if (node is FilterNode filter)
        {
            filter.AsksReadOnly = values.AsksReadOnly;
        }
    }

    private void ReplaceGroup(ThrottleNode node, string group)
    {
        ThrottleGroup before = node.Group;
        node.Group = _transaction.Graph.FindThrottleGroup(group);
        _transaction.OnAbort(() =>
        {
            node.Group = before;
            return ValueTask.CompletedTask;
        });
    }
}
