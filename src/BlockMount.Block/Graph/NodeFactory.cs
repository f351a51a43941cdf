using BlockMount.Base;
using BlockMount.Block.Filters;
using BlockMount.Block.Nodes;
using BlockMount.Block.Options;
using BlockMount.Formats;
using BlockMount.Formats.Qcow2;
using BlockMount.Formats.Qcow2.OnDisk;
using BlockMount.Storage;

namespace BlockMount.Block.Graph;

/// <summary>
/// Makes nodes from options, the children first, as a part of a transaction: each is known as soon as it is made, and closed if a later one fails. Names are looked at before anything is opened.
/// Control loop only.
/// </summary>
internal sealed class NodeFactory
{
    private const long CacheBytesDefault = 32L << 20;
    private const long NullBytesDefault = 1L << 30;

    private readonly GraphTransaction _transaction;

    internal NodeFactory(GraphTransaction transaction) => _transaction = transaction;

    private NodeGraph Graph => _transaction.Graph;

    /// <summary>Makes a node that a command names.</summary>
    /// <exception cref="BlockMountException">An option is wrong, or a file cannot be opened.</exception>
    internal async ValueTask<Node> MakeTopAsync(NodeOptions options)
    {
        if (options.NodeName is null)
        {
            throw new GraphException("'node-name' must be specified for the root node");
        }

        CheckAll(options, []);
        return await MakeAsync(options, default);
    }

    // Before anything is opened: every name that is given is free, and every name that is referred to is known.
    private void CheckAll(NodeOptions options, HashSet<string> names)
    {
        if (options.NodeName is { } name)
        {
            NodeNames.Check(Graph, name);
            if (!names.Add(name))
            {
                throw new GraphException($"Duplicate nodes with node-name='{name}'");
            }
        }

        if (options is { ForceShare: true, ReadOnly: not true })
        {
            throw new GraphException("force-share=on can only be used with read-only images");
        }

        CheckOptions(Graph, options);
        foreach (ChildOption child in ChildrenOf(options))
        {
            if (child.Name is { } known)
            {
                _ = Graph.Find(known);
            }
            else
            {
                CheckAll(child.Options!, names);
            }
        }
    }

    /// <summary>Refuses options that contradict each other, or that name what there is not.</summary>
    internal static void CheckOptions(NodeGraph graph, NodeOptions options)
    {
        if (options is { DetectZeroes: DetectZeroes.Unmap, Discard: not true })
        {
            throw new GraphException("setting detect-zeroes to unmap is not allowed without setting discard operation to unmap");
        }

        if (options.DetectZeroes != DetectZeroes.Off && options is not (Qcow2NodeOptions or RawNodeOptions))
        {
            throw new GraphException($"detect-zeroes is not supported by the driver '{options.Driver}'", "Set it on the image above");
        }

        switch (options)
        {
            case Qcow2NodeOptions qcow2 when qcow2.Runtime.FindConflict() is { } conflict:
                throw new GraphException(conflict);
            case ThrottleNodeOptions throttle:
                _ = graph.FindThrottleGroup(throttle.Group);
                break;
            default:
                break;
        }
    }

    private static IEnumerable<ChildOption> ChildrenOf(NodeOptions options) => (options switch
    {
        Qcow2NodeOptions qcow2 => new[] { qcow2.File, qcow2.DataFile, qcow2.Backing },
        RawNodeOptions raw => [raw.File],
        ThrottleNodeOptions throttle => [throttle.File],
        CopyOnReadNodeOptions copying => [copying.File],
        BlkdebugNodeOptions blkdebug => [blkdebug.Image],
        _ => [],
    }).OfType<ChildOption>();

    private async ValueTask<Node> MakeAsync(NodeOptions options, InheritedOptions above)
    {
        InheritedOptions mine = above.With(options);
        string name = options.NodeName ?? "";
        Node node = options switch
        {
            FileNodeOptions file => await MakeFileAsync(file, name, mine),
            NullNodeOptions empty => new NullNode(
                name, empty.Driver, empty.Size ?? NullBytesDefault, empty.Latency ?? TimeSpan.Zero, empty.ReadZeroes == true, mine.ReadOnly, Graph.Time),
            Qcow2NodeOptions qcow2 => await MakeQcow2Async(qcow2, name, mine),
            RawNodeOptions raw => await MakeRawAsync(raw, name, mine),
            ThrottleNodeOptions throttle => new ThrottleNode(name, await ChildAsync(throttle.File, mine), Graph.FindThrottleGroup(throttle.Group)),
            CopyOnReadNodeOptions copying => await MakeCopyOnReadAsync(copying, name, mine),
            BlkdebugNodeOptions blkdebug => new BlkdebugNode(name, await ChildAsync(blkdebug.Image, mine), blkdebug.InjectErrors, blkdebug.SetStates),
            _ => throw new GraphException($"Unknown driver '{options.Driver}'"),
        };
        node.PassesDiscards = mine.Discard;
        node.AddedWith = options;
        if (node is FilterNode filter)
        {
            filter.AsksReadOnly = mine.ReadOnly;
        }

        _transaction.Adopt(node);
        return node;
    }

    private ValueTask<Node> ChildAsync(ChildOption child, InheritedOptions above) =>
        child.Name is { } name ? new ValueTask<Node>(Graph.Find(name)) : MakeAsync(child.Options!, above);

    private async ValueTask<Node> WritableChildAsync(ChildOption option, InheritedOptions mine)
    {
        Node child = await ChildAsync(option, mine);
        CheckWritable(child, mine);
        return child;
    }

    private async ValueTask<Node> MakeFileAsync(FileNodeOptions options, string name, InheritedOptions mine)
    {
        if (options.IsNative && !mine.Direct)
        {
            throw NativeNeedsDirect();
        }

        bool mayWait = mine is { AutoReadOnly: true, ReadOnly: false };
        StorageOpenOptions open = new()
        {
            ReadOnly = mine.ReadOnly || (mayWait && mine.Writer == WriterAbove.None),
            ForceShare = mine.ForceShare,
            Direct = mine.Direct,
            NoFlush = mine.NoFlush,
            Engine = options.Engine ?? IoEngine.Auto,
            Lock = options.Lock ?? true,
            ShareWrite = options.ShareWrite,
        };
        StorageFile file;
        try
        {
            file = await Graph.Files.OpenAsync(options.FileName, open);
        }
        catch (BlockMountException) when (mayWait && mine.Writer == WriterAbove.Wanted)
        {
            // Whatever was in the way of writing; if it is in the way of reading, too, that is the error to tell.
            open = open with { ReadOnly = true };
            file = await Graph.Files.OpenAsync(options.FileName, open);
        }

        if (file.IsBlockDevice != options.IsHostDevice)
        {
            await file.DisposeAsync();
            throw new GraphException(options.IsHostDevice
                ? $"'host_device' driver requires '{options.FileName}' to be either a character or block device"
                : $"'file' driver requires '{options.FileName}' to be a regular file");
        }

        return new FileNode(name, file, open) { AutoReadOnly = mayWait };
    }

    /// <summary>The refusal of aio=native for a file that is read through the page cache.</summary>
    internal static GraphException NativeNeedsDirect() => new("aio=native was specified, but it requires cache.direct=on, which was not specified.");

    private async ValueTask<Node> MakeRawAsync(RawNodeOptions options, string name, InheritedOptions mine)
    {
        Node file = await WritableChildAsync(options.File, mine);
        using Unthrottled unthrottled = Unthrottled.Begin(file);
        DriverSettings settings = new("raw") { RawOffset = options.Offset, RawSize = options.Size };
        FormatDriver driver = await settings.OpenAsync(file.AsFile(), dataFile: null, mine.ReadOnly || file.ReadOnly);
        return new FormatNode(name, driver, settings, file, dataFile: null, backing: null)
        {
            DetectZeroes = options.DetectZeroes,
            AutoReadOnly = !mine.ReadOnly && (mine.AutoReadOnly || file.WaitsForWriter),
        };
    }

    private async ValueTask<Node> MakeCopyOnReadAsync(CopyOnReadNodeOptions options, string name, InheritedOptions mine)
    {
        Node child = await WritableChildAsync(options.File, mine with { Writer = WriterAbove.Needed });
        await WriterArrival.OpenForWritingAsync(_transaction, child);
        if (options.Bottom is not { } bottom)
        {
            return new CopyOnReadNode(name, child, bottom: null);
        }

        Node node = Graph.TryFindNode(bottom) ?? throw new GraphException($"Bottom node '{bottom}' not found");
        return node.IsFilter ? throw new GraphException($"Bottom node '{bottom}' is a filter")
            : GraphWalk.Chain(child).Contains(node) ? new CopyOnReadNode(name, child, node)
            : throw new GraphException($"Bottom node '{bottom}' is not in the chain of '{child.Name}'");
    }

    private async ValueTask<Node> MakeQcow2Async(Qcow2NodeOptions options, string name, InheritedOptions mine)
    {
        InheritedOptions below = mine with
        {
            Writer = mine.ReadOnly ? WriterAbove.None : mine.AutoReadOnly ? WriterAbove.Wanted : WriterAbove.Needed,
        };
        Node file = await WritableChildAsync(options.File, below);
        await EnsureWritableAsync(file, mine);
        using Unthrottled unthrottled = Unthrottled.Begin(file);
        bool readOnly = mine.ReadOnly || file.ReadOnly;
        Qcow2Header header = await Qcow2HeaderReader.LoadAsync(file.AsFile());
        FeaturePolicy.CheckOpen(header, readOnly, file.FileName, repairsDirty: true);
        if (options.EncryptionFormat is { } format)
        {
            throw NotEncrypted(format);
        }

        Node? dataFile = await DataFileAsync(options, header, file, below);
        Node? backing = await BackingAsync(options, header, file, mine);
        Qcow2OpenOptions open = new()
        {
            CacheBytes = options.Runtime.CacheBytes ?? CacheBytesDefault,
            DiscardToHost = mine.Discard && file.PassesDiscards,
            PassDiscardSnapshot = mine.Discard,
            OnCorruption = Graph.OnCorruption,
        };
        DriverSettings settings = new("qcow2") { Qcow2 = options.Runtime.ApplyTo(open) };
        FormatDriver driver = await settings.OpenAsync(file.AsFile(), dataFile?.AsFile(), readOnly);
        return new FormatNode(name, driver, settings, file, dataFile, backing)
        {
            DetectZeroes = options.DetectZeroes,
            AutoReadOnly = mine is { AutoReadOnly: true, ReadOnly: false },
        };
    }

    /// <summary>The refusal of a key for an image that needs none; the others are not opened.</summary>
    internal static GraphException NotEncrypted(string format) => new($"No encryption in image header, but options specified format '{format}'");

    // qcow2 writes to its file from the beginning, whether its own users do or not.
    private async ValueTask EnsureWritableAsync(Node file, InheritedOptions mine)
    {
        if (mine.ReadOnly)
        {
            return;
        }

        try
        {
            await WriterArrival.OpenForWritingAsync(_transaction, file);
        }
        catch (BlockMountException) when (mine.AutoReadOnly)
        {
            // The image is opened for reading, too, until a writer comes and hears of it.
        }
    }

    private async ValueTask<Node?> DataFileAsync(Qcow2NodeOptions options, Qcow2Header header, Node file, InheritedOptions mine)
    {
        if (!header.HasDataFile)
        {
            return options.DataFile is null ? null : throw new GraphException("'data-file' can only be set for images with an external data file");
        }

        if (options.DataFile is { } given)
        {
            return await ChildAsync(given, mine);
        }

        if (header.DataFileName is not { } stored)
        {
            throw new GraphException("'data-file' is required for this image");
        }

        string path = Graph.Policy.ResolveReference(file.FileName, new BackingReference(stored, "raw"), "data file");
        _ = Graph.Policy.CheckReferenced(path);
        return await MakeAsync(new FileNodeOptions { FileName = path }, mine);
    }

    private async ValueTask<Node?> BackingAsync(Qcow2NodeOptions options, Qcow2Header header, Node file, InheritedOptions mine)
    {
        if (options.Backing is { } given)
        {
            return await ChildAsync(given, mine with { ReadOnly = true });
        }

        if (options.NoBacking || header.Backing is not { } reference)
        {
            return null;
        }

        try
        {
            string path = Graph.Policy.ResolveReference(file.FileName, reference);
            _ = Graph.Policy.CheckReferenced(path);
            Node backing = await new ChainOpener(Graph.Files, Graph.Policy).OpenAsync(path, new ChainOpenOptions
            {
                Format = reference.Format,
                ReadOnly = true,
                ForceShare = mine.ForceShare,
                Direct = mine.Direct,
                NoFlush = mine.NoFlush,
                NodeName = "",
                OnCorruption = Graph.OnCorruption,
            });
            _transaction.Adopt(backing);
            // The active layer's device has the index.
            backing.IndexBelow(0);
            return backing;
        }
        catch (BlockMountException error)
        {
            throw new GraphException($"Could not open backing file: {error.Message}", error.Hint, error);
        }
    }

    // A format or filter on a node that is there already, and that cannot be written.
    private static void CheckWritable(Node file, InheritedOptions mine)
    {
        if (file.ReadOnly && !file.WaitsForWriter && !mine.ReadOnly && !mine.AutoReadOnly)
        {
            throw new GraphException("Block node is read-only");
        }
    }
}
