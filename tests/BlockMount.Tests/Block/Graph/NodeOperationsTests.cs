using BlockMount.Base;
using BlockMount.Block.Devices;
using BlockMount.Block.Filters;
using BlockMount.Block.Graph;
using BlockMount.Block.Nodes;
using BlockMount.Block.Options;
using BlockMount.Formats;
using BlockMount.TestSupport;
using Xunit;

namespace BlockMount.Tests.Block.Graph;

/// <summary>FEATURES 2.1: nodes come, change and go by name, and what is refused is refused in QEMU's words.</summary>
public sealed class NodeOperationsTests : IAsyncLifetime, IDisposable
{
    private const long Size = 1 << 20;

    private readonly GraphFixture _fixture = new();

    public async Task InitializeAsync() => await _fixture.CreateImageAsync("a", Size);

    // After DisposeAsync, which has done it all.
    public void Dispose() => _fixture.DisposeAsync().AsTask().GetAwaiter().GetResult();

    public async Task DisposeAsync()
    {
        await _fixture.DisposeAsync();
        Assert.Equal(0, _fixture.Memory.OpenHandles);
        Assert.Empty(_fixture.Leftovers);
    }

    [Fact]
    public async Task Add_NamedFileUnderAnImage_BothStayUntilTheyAreDeleted()
    {
        await AddAsync(File("a", "file-a"));
        await AddAsync(Image("node-a", ChildOption.Of("file-a")));
        await RefusedAsync("Block device file-a is in use", scope => NodeOperations.DeleteAsync(scope, "file-a"));
        await RunAsync(scope => NodeOperations.DeleteAsync(scope, "node-a"));
        Assert.Equal(["file-a"], Names());
        Assert.Equal(1, _fixture.Memory.OpenHandles);
        await RunAsync(scope => NodeOperations.DeleteAsync(scope, "file-a"));
        Assert.Empty(Names());
        Assert.Equal(0, _fixture.Memory.OpenHandles);
    }

    [Fact]
    public async Task Add_WrongArguments_AreRefusedAndNothingIsOpen()
    {
        await RefusedAsync("'node-name' must be specified for the root node", scope => NodeOperations.AddAsync(scope, File("a", null)));
        await RefusedAsync("Invalid node-name: '0a'", scope => NodeOperations.AddAsync(scope, File("a", "0a")));
        await RefusedAsync("Node name too long", scope => NodeOperations.AddAsync(scope, File("a", new string('a', 32))));
        await RefusedAsync("Cannot find device='x' nor node-name='x'", scope => NodeOperations.AddAsync(scope, Image("n", ChildOption.Of("x"))));
        await RefusedAsync("Duplicate nodes with node-name='n'", scope => NodeOperations.AddAsync(scope, Image("n", ChildOption.Of(File("a", "n")))));
        await RefusedAsync(
            "force-share=on can only be used with read-only images", scope => NodeOperations.AddAsync(scope, File("a", "n") with { ForceShare = true }));
        await AddAsync(File("a", "n"));
        await RefusedAsync("Duplicate nodes with node-name='n'", scope => NodeOperations.AddAsync(scope, File("a", "n")));
        await RunAsync(scope => NodeOperations.DeleteAsync(scope, "n"));
        BlockMountException error = await Assert.ThrowsAsync<BlockMountException>(() => AddAsync(File("missing", "n")));
        Assert.Equal("Could not open 'missing': No such file or directory", error.Message);
        Assert.Empty(Names());
        Assert.Equal(0, _fixture.Memory.OpenHandles);
    }

    [Fact]
    public async Task Add_NotAnImage_ChildrenThatWereMadeAreClosed()
    {
        _fixture.Memory.Add("text", new MemoryFile("text", content: new byte[1024]));
        await Assert.ThrowsAsync<ImageFormatException>(() => AddAsync(Image("n", ChildOption.Of(File("text", "file")))));
        Assert.Empty(Names());
        Assert.Equal(0, _fixture.Memory.OpenHandles);
    }

    [Fact]
    public async Task Delete_NodesThatAreUsed_AreRefused()
    {
        await RefusedAsync("Failed to find node with node-name='x'", scope => NodeOperations.DeleteAsync(scope, "x"));
        BlockDevice device = await ServeAsync();
        await RefusedAsync("Node node-a is in use", scope => NodeOperations.DeleteAsync(scope, "node-a"));
        await RunAsync(scope => SnapshotOperations.SnapshotSyncAsync(
            scope, new SnapshotSyncOptions { NodeName = "node-a", SnapshotFile = "b", SnapshotNodeName = "node-b" }));
        await RefusedAsync("Node 'node-a' is busy: node is used as backing hd of 'node-b'", scope => NodeOperations.DeleteAsync(scope, "node-a"));
        string file = device.Root.ChildIn(NodeEdge.FileRole)!.Child.Name;
        Assert.StartsWith("#block", file, StringComparison.Ordinal);
        await RefusedAsync($"Node {file} is not owned by the monitor", scope => NodeOperations.DeleteAsync(scope, file));
    }

    [Fact]
    public async Task Snapshot_OfANodeWithoutUsers_OverlayStays()
    {
        await AddAsync(Image("node-a", ChildOption.Of(File("a", null))));
        await RunAsync(scope => SnapshotOperations.SnapshotSyncAsync(
            scope, new SnapshotSyncOptions { NodeName = "node-a", SnapshotFile = "b", SnapshotNodeName = "node-b" }));
        Assert.Same(_fixture.Graph.Find("node-a"), _fixture.Graph.Find("node-b").Backing);
    }

    [Fact]
    public async Task Snapshot_OverlaysThatCannotBe_AreRefused()
    {
        await _fixture.CreateImageAsync("b", Size);
        await _fixture.CreateImageAsync("c", Size, new BackingReference("b", "qcow2"));
        await ServeAsync();
        await AddAsync(Image("node-b", ChildOption.Of(File("b", null))) with { ReadOnly = true });
        await AddAsync(Image("node-c", ChildOption.Of(File("c", null))) with { NoBacking = false, Backing = ChildOption.Of("node-b") });
        await AddAsync(new NullNodeOptions { NodeName = "null" });
        await _fixture.SetThrottleGroupAsync("g", new ThrottleLimits());
        await AddAsync(new ThrottleNodeOptions { NodeName = "filter", Group = "g", File = ChildOption.Of(new NullNodeOptions()) });
        await RefusedAsync("The overlay is already in use", scope => SnapshotOperations.SnapshotAsync(scope, "null", "node-a"));
        await RefusedAsync("The overlay already has a backing image", scope => SnapshotOperations.SnapshotAsync(scope, "node-a", "node-c"));
        await RefusedAsync("Filters cannot be used as overlays", scope => SnapshotOperations.SnapshotAsync(scope, "node-a", "filter"));
        await RefusedAsync("The overlay does not support backing images", scope => SnapshotOperations.SnapshotAsync(scope, "node-a", "null"));
    }

    [Fact]
    public async Task AddDevice_WriterOnAFileUnderAnImage_IsAPermissionConflict()
    {
        await AddAsync(File("a", "file-a"));
        await AddAsync(Image("node-a", ChildOption.Of("file-a")));
        GraphException error = await Assert.ThrowsAsync<GraphException>(() => AddDeviceAsync("second", "file-a"));
        Assert.Equal(
            "Permission conflict on node 'file-a': permissions 'write' are both required by an unnamed block device (uses node 'file-a' as 'root' child) " +
            "and unshared by node 'node-a' (uses node 'file-a' as 'file' child).",
            error.Message);
        Assert.Null(_fixture.Graph.TryFindDevice("second"));
        Assert.Single(_fixture.Graph.Find("file-a").Parents);
    }

    [Fact]
    public async Task AddDevice_WriterOnAReadOnlyNode_IsRefused()
    {
        await AddAsync(File("a", "file-a") with { ReadOnly = true });
        GraphException error = await Assert.ThrowsAsync<GraphException>(() => AddDeviceAsync("second", "file-a"));
        Assert.Equal("Block node is read-only", error.Message);
    }

    [Fact]
    public async Task Resize_OfANodeWithADevice_IsRefusedAsThatUnsharesIt()
    {
        BlockDevice device = await ServeAsync();
        GraphException error = await Assert.ThrowsAsync<GraphException>(() => RunAsync(scope => NodeOperations.ResizeAsync(scope, null, "node-a", 2 * Size)));
        Assert.StartsWith("Permission conflict on node 'node-a': permissions 'resize' are both required by an unnamed block device", error.Message, StringComparison.Ordinal);
        device.RootEdge.Permissions = device.RootEdge.Permissions with { Shared = NodePermission.All };
        long announced = 0;
        device.Resized += size => announced = size;
        await RunAsync(scope => NodeOperations.ResizeAsync(scope, "drive0", null, 2 * Size));
        Assert.Equal(2 * Size, device.Size);
        Assert.Equal(2 * Size, announced);
    }

    [Fact]
    public async Task Reopen_BackingAndReadOnly_TakeEffectAndBackAgain()
    {
        await _fixture.CreateImageAsync("b", Size, new BackingReference("a", "qcow2"));
        await AddAsync(Image("node-a", ChildOption.Of(File("a", null))) with { ReadOnly = true });
        await AddAsync(Image("node-b", ChildOption.Of(File("b", "file-b"))));
        Qcow2NodeOptions reopened = Image("node-b", ChildOption.Of("file-b"));
        await RunAsync(scope => NodeOperations.ReopenAsync(scope, [reopened with { NoBacking = false, Backing = ChildOption.Of("node-a"), ReadOnly = true }]));
        Node node = _fixture.Graph.Find("node-b");
        Assert.True(node.ReadOnly);
        Assert.Equal("node-a", node.Backing!.Name);
        await RefusedAsync("backing is missing for 'node-b'", scope => NodeOperations.ReopenAsync(scope, [reopened with { NoBacking = false }]));
        await RefusedAsync(
            "Making 'node-b' a backing child of 'node-a' would create a cycle",
            scope => NodeOperations.ReopenAsync(scope, [Image("node-a", ChildOption.Of(File("a", null))) with { NoBacking = false, Backing = ChildOption.Of("node-b") }]));
        await RunAsync(scope => NodeOperations.ReopenAsync(scope, [reopened]));
        Assert.False(node.ReadOnly);
        Assert.Null(node.Backing);
        await AddDeviceAsync("drive0", "node-b");
        await RefusedAsync(
            "Read-only block node 'node-b' cannot support read-write users", scope => NodeOperations.ReopenAsync(scope, [reopened with { ReadOnly = true }]));
        await RefusedAsync("Failed to find node with node-name='x'", scope => NodeOperations.ReopenAsync(scope, [reopened, reopened with { NodeName = "x" }]));
    }

    [Fact]
    public async Task Raw_OffsetAndSize_ShowAPartOfTheFile()
    {
        byte[] content = new byte[8192];
        new Random(3).NextBytes(content);
        _fixture.Memory.Add("raw", new MemoryFile("raw", content: content));
        Node part = await AddAsync(new RawNodeOptions { NodeName = "part", File = ChildOption.Of(File("raw", null)), Offset = 512, Size = 1024 });
        byte[] read = new byte[1024];
        await part.ReadAsync(0, read);
        Assert.Equal(content[512..1536], read);
        await part.WriteAsync(0, new byte[512]);
        Assert.All(_fixture.Memory["raw"].ToArray()[512..1024], value => Assert.Equal(0, value));
        Assert.Equal(content[1024..], _fixture.Memory["raw"].ToArray()[1024..]);
        await Assert.ThrowsAsync<ImageFormatException>(() => AddAsync(
            new RawNodeOptions { NodeName = "beyond", File = ChildOption.Of(File("raw", null)), Offset = 8192, Size = 512 }));
    }

    [Fact]
    public async Task Blkdebug_UnderAnImage_FailsStopsAndGoesOn()
    {
        await AddAsync(Image("node-a", ChildOption.Of(new BlkdebugNodeOptions
        {
            NodeName = "debug",
            Image = ChildOption.Of(File("a", null)),
            InjectErrors = [new InjectError("flush_to_disk") { Requests = BlkdebugRequest.Flush, Errno = Errno.ENOSPC, Once = true, State = 2 }],
            SetStates = [new SetState("pwritev", 1, 2)],
        })));
        BlockDevice device = await AddDeviceAsync("drive0", "node-a");
        var debug = (BlkdebugNode)_fixture.Graph.Find("debug");
        await device.FlushAsync();
        debug.Break("pwritev", "A");
        Task write = device.WriteAsync(0, new byte[] { 1, 2, 3 }).AsTask();
        Assert.True(debug.IsSuspended("A"));
        Assert.False(write.IsCompleted);
        Assert.True(debug.Resume("A"));
        Assert.False(debug.Resume("A"));
        await write.WaitAsync(TimeSpan.FromSeconds(10));
        Assert.Equal(Errno.ENOSPC, (await Assert.ThrowsAsync<BlockIOException>(async () => await device.FlushAsync())).Errno);
        byte[] read = new byte[3];
        await device.ReadAsync(0, read);
        Assert.Equal([1, 2, 3], read);
        await RefusedAsync("Invalid event name 'nope'", scope => NodeOperations.AddAsync(scope, new BlkdebugNodeOptions
        {
            NodeName = "n",
            Image = ChildOption.Of(new NullNodeOptions()),
            InjectErrors = [new InjectError("nope")],
        }));
    }

    [Fact]
    public async Task WriteThreshold_OnTheFile_TellsOnceOfTheFirstWriteBeyond()
    {
        await AddAsync(Image("node-a", ChildOption.Of(File("a", "file-a"))));
        BlockDevice device = await AddDeviceAsync("drive0", "node-a");
        List<(string Node, long Threshold, long Exceeded)> told = [];
        long end = _fixture.Memory["a"].Length;
        await RunAsync(scope =>
        {
            NodeOperations.SetWriteThreshold(scope, "file-a", end, (node, threshold, exceeded) => told.Add((node.Name, threshold, exceeded)));
            return ValueTask.CompletedTask;
        });
        Assert.Equal(end, _fixture.Graph.Find("file-a").WriteThreshold);
        await device.WriteAsync(0, new byte[65536]);
        await device.WriteAsync(65536, new byte[65536]);
        Assert.Equal(("file-a", end), (Assert.Single(told).Node, told[0].Threshold));
        Assert.True(told[0].Exceeded > 0);
        Assert.Equal(0, _fixture.Graph.Find("file-a").WriteThreshold);
    }

    [Fact]
    public async Task Freeze_WritesWaitAndReadsGoOn()
    {
        BlockDevice device = await ServeAsync();
        await NodeOperations.FreezeAsync([device]);
        Task write = device.WriteAsync(0, new byte[] { 9 }).AsTask();
        byte[] read = new byte[1];
        await device.ReadAsync(0, read);
        Assert.False(write.IsCompleted);
        // A snapshot of frozen disks is what freezing is for.
        await RunAsync(scope => SnapshotOperations.SnapshotSyncAsync(scope, new SnapshotSyncOptions { Device = "drive0", SnapshotFile = "b" }));
        Assert.False(write.IsCompleted);
        NodeOperations.Thaw([device]);
        await write.WaitAsync(TimeSpan.FromSeconds(10));
        await device.ReadAsync(0, read);
        Assert.Equal(9, read[0]);
    }

    [Fact]
    public async Task Freeze_DeviceThatComesLater_IsFrozenToo()
    {
        BlockDevice device = await ServeAsync();
        await NodeOperations.FreezeAsync([device]);
        BlockDevice later = await _fixture.Loop.RunAsync(scope => _fixture.Graph.AddDeviceAsync(scope, device.Root, new DeviceOptions { Name = "e0", Writable = true }));
        Task write = later.WriteAsync(0, new byte[] { 9 }).AsTask();
        Assert.False(write.IsCompleted);
        NodeOperations.Thaw(_fixture.Graph.Devices);
        await write.WaitAsync(TimeSpan.FromSeconds(10));
    }

    [Fact]
    public async Task ChangeMedium_DeviceStaysAndShowsTheOtherImage()
    {
        BlockDevice device = await ServeAsync();
        await _fixture.CreateImageAsync("large", 3 * Size);
        long announced = 0;
        device.Resized += size => announced = size;
        Node top = await new ChainOpener(_fixture.Files, _fixture.Graph.Policy).OpenAsync("large", new ChainOpenOptions { NodeName = "" });
        await RunAsync(scope => NodeOperations.ChangeMediumAsync(scope, device, top));
        Assert.Equal(3 * Size, device.Size);
        Assert.Equal(3 * Size, announced);
        await device.WriteAsync(2 * Size, new byte[] { 1 });
        Assert.Equal("large", device.Root.FileName);
        Assert.Contains("node-a", Names());
    }

    [Fact]
    public async Task InternalSnapshots_CreateDeleteAndAbort()
    {
        await ServeAsync();
        SnapshotMoment moment = new() { Date = DateTimeOffset.UnixEpoch };
        Task CreateAsync(string name) => RunAsync(scope => GraphTransaction.RunAsync(
            scope, transaction => InternalSnapshotOperations.CreateAsync(transaction, "drive0", name, moment)));
        await CreateAsync("snap1");
        Assert.Equal("Snapshot with name 'snap1' already exists on device 'drive0'", (await Assert.ThrowsAsync<GraphException>(() => CreateAsync("snap1"))).Message);
        Assert.Equal("Name is empty", (await Assert.ThrowsAsync<GraphException>(() => CreateAsync(""))).Message);
        await Assert.ThrowsAsync<GraphException>(() => RunAsync(scope => GraphTransaction.RunAsync(
            scope,
            transaction => InternalSnapshotOperations.CreateAsync(transaction, "drive0", "undone", moment),
            _ => throw new GraphException("no"))));
        await RunAsync(async scope => Assert.Equal("snap1", (await InternalSnapshotOperations.DeleteAsync(scope, "drive0", null, "snap1")).Name));
        Assert.Equal(
            "Snapshot with id 'null' and name 'snap1' does not exist on device 'drive0'",
            (await Assert.ThrowsAsync<GraphException>(() => RunAsync(async scope => await InternalSnapshotOperations.DeleteAsync(scope, "drive0", null, "snap1")))).Message);
    }

    [Fact]
    public async Task ChangeBackingFile_OfABackingImage_RewritesTheHeaderAndStaysReadOnly()
    {
        await ServeAsync();
        foreach (string name in new[] { "b", "c" })
        {
            await RunAsync(scope => SnapshotOperations.SnapshotSyncAsync(
                scope, new SnapshotSyncOptions { Device = "drive0", SnapshotFile = name, SnapshotNodeName = "node-" + name }));
        }

        await RunAsync(scope => NodeOperations.ChangeBackingFileAsync(scope, "drive0", "node-b", "elsewhere"));
        var middle = (FormatNode)_fixture.Graph.Find("node-b");
        Assert.True(middle.ReadOnly);
        Assert.Equal(new BackingReference("elsewhere", "qcow2"), middle.BackingReference);
        Assert.Equal("node-a", middle.Backing!.Name);
        await RefusedAsync(
            "not allowing backing file change on an image without a backing file", scope => NodeOperations.ChangeBackingFileAsync(scope, "drive0", "node-a", "x"));
    }

    [Fact]
    public async Task Queries_AfterASnapshot_ShowNodesDevicesAndEdges()
    {
        BlockDevice device = await ServeAsync();
        await RunAsync(scope => SnapshotOperations.SnapshotSyncAsync(
            scope, new SnapshotSyncOptions { Device = "drive0", SnapshotFile = "b", SnapshotNodeName = "node-b" }));
        await device.WriteAsync(0, new byte[512]);
        IReadOnlyList<NodeReport> nodes = await _fixture.Loop.RunAsync(GraphQueries.NodesAsync);
        NodeReport top = nodes.Single(node => node.Name == "node-b");
        Assert.Equal(("qcow2", "b", false, "a", 1), (top.Driver, top.FileName, top.ReadOnly, top.BackingFileName, top.BackingDepth));
        Assert.Equal(["file", "backing"], top.Children.Select(child => child.Role));
        Assert.Equal(("a", "qcow2"), (top.Qcow2!.BackingFileName, top.Qcow2.BackingFormat));
        DeviceReport report = Assert.Single(await _fixture.Loop.RunAsync(GraphQueries.DevicesAsync));
        Assert.Equal((1, 512), (report.Statistics.Writes.Operations, report.Statistics.Writes.Bytes));
        Assert.True(report.Statistics.Writes.TotalTime > TimeSpan.Zero);
        GraphReport graph = await _fixture.Loop.RunAsync(scope => new ValueTask<GraphReport>(GraphQueries.Graph(scope)));
        Assert.Equal(5, graph.Vertices.Count);
        Assert.Equal(["backing", "file", "file", "root"], graph.Edges.Select(edge => edge.Name).Order());
        GraphEdgeReport backing = graph.Edges.Single(edge => edge.Name == "backing");
        Assert.Equal(NodePermission.ConsistentRead, backing.Held);
    }

    [Fact]
    public async Task DetectZeroes_WritesOfZeros_TakeNoSpace()
    {
        Qcow2NodeOptions options = Image("node-a", ChildOption.Of(File("a", null))) with { DetectZeroes = DetectZeroes.Unmap };
        await RefusedAsync(
            "setting detect-zeroes to unmap is not allowed without setting discard operation to unmap", scope => NodeOperations.AddAsync(scope, options));
        await AddAsync(options with { Discard = true });
        BlockDevice device = await AddDeviceAsync("drive0", "node-a");
        await device.WriteAsync(0, new byte[] { 1, 2, 3, 4 });
        await device.FlushAsync();
        long before = _fixture.Memory["a"].Length;
        await device.WriteAsync(100, new byte[Size - 100]);
        await device.WriteAsync(1, new byte[] { 0, 0 });
        await device.FlushAsync();
        byte[] read = new byte[5];
        await device.ReadAsync(0, read);
        Assert.Equal([1, 0, 0, 4, 0], read);
        Assert.Equal(before, _fixture.Memory["a"].Length);
    }

    [Fact]
    public async Task Throttle_UnderAnImage_GrowsWithIt()
    {
        await RefusedAsync(
            "Throttle group 'g' does not exist",
            scope => NodeOperations.AddAsync(scope, Image("node-a", ChildOption.Of(new ThrottleNodeOptions { Group = "g", File = ChildOption.Of(File("a", null)) }))));
        await _fixture.SetThrottleGroupAsync("g", new ThrottleLimits());
        await AddAsync(Image("node-a", ChildOption.Of(new ThrottleNodeOptions { Group = "g", File = ChildOption.Of(File("a", null)) })));
        BlockDevice device = await AddDeviceAsync("drive0", "node-a");
        byte[] content = new byte[Size];
        new Random(5).NextBytes(content);
        await device.WriteAsync(0, content);
        await device.FlushAsync();
        byte[] read = new byte[Size];
        await device.ReadAsync(0, read);
        Assert.Equal(content, read);
        Assert.True(_fixture.Memory["a"].Length > Size);
    }

    private static FileNodeOptions File(string name, string? node) => new() { FileName = name, NodeName = node };

    private static Qcow2NodeOptions Image(string node, ChildOption file) => new() { NodeName = node, File = file, NoBacking = true };

    private Task<Node> AddAsync(NodeOptions options) => _fixture.Loop.RunAsync(scope => NodeOperations.AddAsync(scope, options));

    private Task<BlockDevice> AddDeviceAsync(string name, string node) => _fixture.Loop.RunAsync(
        scope => _fixture.Graph.AddDeviceAsync(scope, _fixture.Graph.Find(node), new DeviceOptions { Name = name, Writable = true }));

    private async Task<BlockDevice> ServeAsync()
    {
        await AddAsync(Image("node-a", ChildOption.Of(File("a", null))));
        return await AddDeviceAsync("drive0", "node-a");
    }

    private Task RunAsync(Func<ControlScope, ValueTask> action) => _fixture.RunAsync(action);

    private async Task RefusedAsync<T>(string message, Func<ControlScope, ValueTask<T>> action) =>
        Assert.Equal(message, (await Assert.ThrowsAsync<GraphException>(() => _fixture.Loop.RunAsync(action))).Message);

    private async Task RefusedAsync(string message, Func<ControlScope, ValueTask> action) =>
        Assert.Equal(message, (await Assert.ThrowsAsync<GraphException>(() => _fixture.RunAsync(action))).Message);

    private string[] Names() => [.. _fixture.Graph.Nodes.Select(node => node.Name).Order(StringComparer.Ordinal)];
}
