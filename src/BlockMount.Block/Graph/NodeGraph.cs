using BlockMount.Base.Async;
using BlockMount.Block.Devices;
using BlockMount.Block.Filters;
using BlockMount.Block.Nodes;
using BlockMount.Formats;
using BlockMount.Storage;

namespace BlockMount.Block.Graph;

/// <summary>
/// All nodes and devices by their names, which share one look-up. It owns devices; a node lives by its references (<see cref="NodeEdge"/>, or the monitor's own),
/// and leaves the graph when the last one goes. What changes it takes a <see cref="ControlScope"/>; looking up is possible from any thread.
/// </summary>
public sealed class NodeGraph : IAsyncDisposable
{
    private readonly Lock _gate = new();

    // All three guarded by _gate.
    private readonly Dictionary<string, Node> _nodes = [];
    private readonly List<Node> _order = [];
    private readonly Dictionary<string, BlockDevice> _devices = [];

    // Both used on the control loop only.
    private readonly NodeNames _names = new();
    private readonly ThrottleGroups _throttleGroups = new();

    /// <summary>An empty graph.</summary>
    /// <param name="files">Opens the files of nodes that commands add.</param>
    /// <param name="policy">Decides about files that images name.</param>
    public NodeGraph(IStorageOpener files, OpenPolicy policy)
    {
        Files = files;
        Policy = policy;
    }

    /// <summary>Nodes in the order in which they came.</summary>
    public IReadOnlyList<Node> Nodes
    {
        get
        {
            lock (_gate)
            {
                return [.. _order];
            }
        }
    }

    /// <summary>Devices in the order of their names.</summary>
    public IReadOnlyList<BlockDevice> Devices
    {
        get
        {
            lock (_gate)
            {
                return [.. _devices.Values.OrderBy(device => device.Name, StringComparer.Ordinal)];
            }
        }
    }

    /// <summary>Held while edges change: by actions of the control loop, and by devices that are resized or closed.</summary>
    internal AsyncMutex Changes { get; } = new();

    internal IStorageOpener Files { get; }

    /// <summary>Makes the files of overlays.</summary>
    /// <exception cref="GraphException">The files of this graph cannot be made.</exception>
    internal IStorageCreator Creator => Files as IStorageCreator ?? throw new GraphException("Image creation is not supported by these files");

    internal OpenPolicy Policy { get; }

    /// <summary>The clock of nodes that wait.</summary>
    public TimeProvider Time { get; init; } = TimeProvider.System;

    /// <summary>Told once for each image that is found damaged while it is in use. Any thread; must not throw or wait.</summary>
    public Action<CorruptionReport>? OnCorruption { get; init; }

    /// <summary>What the throttle nodes name. Control loop only.</summary>
    public IReadOnlyCollection<ThrottleGroup> ThrottleGroups => _throttleGroups.All;

    /// <summary>Told of what could not be closed cleanly after a change that has happened all the same. Any thread; must not throw or wait.</summary>
    public Action<Exception>? OnLeftover { get; init; }

    /// <summary>The node of that name; null if there is none.</summary>
    public Node? TryFindNode(string name)
    {
        lock (_gate)
        {
            return _nodes.GetValueOrDefault(name);
        }
    }

    /// <summary>The device of that name; null if there is none.</summary>
    public BlockDevice? TryFindDevice(string name)
    {
        lock (_gate)
        {
            return _devices.GetValueOrDefault(name);
        }
    }

    /// <summary>
    /// What a command means by a device's or a node's name: a device stands for its active layer. A name that is null is not looked for. Where a device is wanted the name of a node serves as well.
    /// </summary>
    /// <exception cref="GraphException">There is none; in QEMU's words.</exception>
    public Node Find(string? device, string? nodeName)
    {
        Node? found = device is null ? null : TryFindDevice(device)?.Root ?? TryFindNode(device);
        found ??= nodeName is null ? null : TryFindNode(nodeName);
        return found ?? throw new GraphException($"Cannot find device='{device}' nor node-name='{nodeName}'");
    }

    /// <summary>The node that a command means by one name, be it a device's or a node's.</summary>
    /// <exception cref="GraphException">There is none; in QEMU's words.</exception>
    public Node Find(string name) => Find(name, name);

    /// <summary>The device that a command means: by its name, or, if there is only one, by the name of its active layer.</summary>
    public BlockDevice? TryFindDeviceOf(string name) =>
        TryFindDevice(name) ?? (TryFindNode(name)?.Parents.Select(edge => edge.Parent).OfType<BlockDevice>().ToArray() is [var only] ? only : null);

    /// <summary>Takes <paramref name="top"/> and everything below it into the graph; nodes without a name get one. They stay their users'.</summary>
    /// <exception cref="GraphException">A name is taken; nothing was changed.</exception>
    public void Adopt(ControlScope scope, Node top)
    {
        CheckScope(scope);
        Node[] added = [.. GraphWalk.Below([top]).Where(node => node.Graph is null)];
        foreach (Node node in added.Where(node => node.Name.Length > 0))
        {
            NodeNames.Check(this, node.Name);
        }

        foreach (Node node in added)
        {
            if (node.Name.Length == 0)
            {
                node.Rename(NextName());
            }

            Register(node);
        }
    }

    /// <summary>Serves a node under a device name.</summary>
    /// <param name="top">A node of this graph; the device becomes one more user of it.</param>
    /// <exception cref="GraphException">The name is taken, or the node's other users do not bear this one.</exception>
    public async ValueTask<BlockDevice> AddDeviceAsync(ControlScope scope, Node top, DeviceOptions options)
    {
        CheckScope(scope);
        if (TryFindDevice(options.Name) is not null)
        {
            throw new GraphException($"Device with id '{options.Name}' already exists");
        }

        if (TryFindNode(options.Name) is not null)
        {
            throw new GraphException($"Device name '{options.Name}' conflicts with an existing node name");
        }

        BlockDevice? device = null;
        await GraphTransaction.RunAsync(scope, transaction =>
        {
            device = NewDevice(transaction, top, options);
            return ValueTask.CompletedTask;
        });
        if (Devices.Any(other => other.IsFrozen))
        {
            // 'stop' is in force until 'cont', for those who come later as well.
            device!.Gate.Freeze();
        }

        lock (_gate)
        {
            _devices.Add(options.Name, device!);
        }

        if (top.Backing is not null && top.IndexBytes == 0)
        {
            using DrainedSection drained = await DrainedSection.BeginAsync(scope, [top]);
            device!.EnsureIndexBytes(SnapshotOperations.IndexBytesDefault);
        }

        return device!;
    }

    /// <summary>object-add throttle-group, or its limits when it is there.</summary>
    /// <exception cref="GraphException">The limits contradict each other.</exception>
    public ThrottleGroup SetThrottleGroup(ControlScope scope, string name, ThrottleLimits limits)
    {
        CheckScope(scope);
        return _throttleGroups.Set(name, limits, Time);
    }

    /// <summary>object-del of a throttle group.</summary>
    /// <exception cref="GraphException">There is none, or nodes use it.</exception>
    public void RemoveThrottleGroup(ControlScope scope, string name)
    {
        CheckScope(scope);
        _throttleGroups.Remove(name, Nodes);
    }

    /// <summary>Closes a device, after those who serve it; its nodes stay as long as somebody uses them.</summary>
    public async ValueTask RemoveDeviceAsync(ControlScope scope, BlockDevice device)
    {
        CheckScope(scope);
        lock (_gate)
        {
            _ = _devices.Remove(device.Name);
        }

        await scope.LockAsync();
        try
        {
            await device.CloseLockedAsync();
        }
        finally
        {
            scope.Unlock();
        }
    }

    /// <summary>Closes all devices, then all nodes; everything is tried, and the first failure is thrown. Nothing else runs any more.</summary>
    public async ValueTask DisposeAsync()
    {
        List<Exception> failures = [];
        foreach (BlockDevice device in Devices)
        {
            await TryAsync(device.DisposeAsync, failures);
        }

        foreach (Node node in Nodes)
        {
            node.IsMonitorOwned = false;
            await TryAsync(node.CloseIfUnusedAsync, failures);
        }

        _throttleGroups.Dispose();

        lock (_gate)
        {
            _devices.Clear();
        }

        if (failures.Count > 0)
        {
            System.Runtime.ExceptionServices.ExceptionDispatchInfo.Throw(failures[0]);
        }
    }

    /// <summary>The group that a node names.</summary>
    /// <exception cref="GraphException">There is none; in QEMU's words.</exception>
    internal ThrottleGroup FindThrottleGroup(string name) => _throttleGroups.Find(name);

    /// <summary>A name for a node that nobody has named.</summary>
    internal string NextName()
    {
        string name;
        do
        {
            name = _names.Next();
        }
        while (TryFindNode(name) is not null);

        return name;
    }

    /// <summary>Makes a node known by its name, which is free.</summary>
    internal void Register(Node node)
    {
        lock (_gate)
        {
            _nodes.Add(node.Name, node);
            _order.Add(node);
        }

        node.Graph = this;
    }

    /// <summary>The node is about to be closed.</summary>
    internal void Forget(Node node)
    {
        node.Graph = null;
        lock (_gate)
        {
            _ = _nodes.Remove(node.Name);
            _ = _order.Remove(node);
        }
    }

    internal void CheckScope(ControlScope scope) =>
        System.Diagnostics.Debug.Assert(scope.Graph == this, "the scope belongs to another graph");

    // The permissions of all users are looked at when the transaction ends.
    private BlockDevice NewDevice(GraphTransaction transaction, Node top, DeviceOptions options)
    {
        EdgePermissions permissions = options.Permissions ?? EdgePermissions.ForDevice(options.Writable);
        BlockDevice device = new(options.Name, top, !options.Writable, Changes, permissions)
        {
            DiscardEnabled = options.DiscardEnabled,
            UserDescription = options.Description,
        };
        transaction.OnAbort(() =>
        {
            device.RootEdge.Detach();
            return ValueTask.CompletedTask;
        });
        return device;
    }

    private static async ValueTask TryAsync(Func<ValueTask> close, List<Exception> failures)
    {
        try
        {
            await close();
        }
        catch (Exception error)
        {
            // The first one is thrown when everything has been tried.
            failures.Add(error);
        }
    }
}
