using BlockMount.Base;
using BlockMount.Block.Devices;
using BlockMount.Block.Filters;
using BlockMount.Block.Graph;
using BlockMount.Block.Nodes;
using BlockMount.Block.Options;
using BlockMount.Storage;
using BlockMount.TestSupport;
using Xunit;

namespace BlockMount.Tests.Block.Graph;

/// <summary>Option auto-read-only: files are open for reading until a writer comes, and images fall back to reading where writing is refused.</summary>
public sealed class AutoReadOnlyTests : IAsyncDisposable
{
    private const long Size = 1 << 20;

    private readonly GuardedStorage _files = new();
    private readonly GraphFixture _fixture;

    public AutoReadOnlyTests() => _fixture = new GraphFixture(_files);

    public async ValueTask DisposeAsync()
    {
        await _fixture.DisposeAsync();
        Assert.Equal(0, _files.Memory.OpenHandles);
        Assert.Empty(_fixture.Leftovers);
    }

    [Fact]
    public async Task File_NobodyWrites_IsOpenForReadingUntilAWriterComes()
    {
        await CreateRawAsync("a");
        Node file = await AddAsync(File("a", "f") with { AutoReadOnly = true });
        Assert.True(file.ReadOnly);
        Assert.True(file.WaitsForWriter);
        BlockDevice reader = await ServeAsync(file, "reader", writable: false);
        Assert.True(file.ReadOnly);
        BlockDevice writer = await ServeAsync(file, "writer", writable: true);
        Assert.False(file.ReadOnly);
        Assert.False(writer.ReadOnly);
        await writer.WriteAsync(0, new byte[] { 7 });
        byte[] read = new byte[1];
        await reader.ReadAsync(0, read);
        Assert.Equal(7, read[0]);
    }

    [Fact]
    public async Task Raw_OnAFileThatWaits_IsOpenedWithItWhenAWriterComes()
    {
        await CreateRawAsync("a");
        await AddAsync(File("a", "f") with { AutoReadOnly = true });
        Node raw = await AddAsync(new RawNodeOptions { NodeName = "r", File = ChildOption.Of("f") });
        Assert.True(raw.WaitsForWriter);
        BlockDevice writer = await ServeAsync(raw, "writer", writable: true);
        Assert.False(raw.ReadOnly);
        Assert.False(_fixture.Graph.Find("f").ReadOnly);
        await writer.WriteAsync(0, new byte[] { 7 });
    }

    [Fact]
    public async Task Writer_WhereWritingIsRefused_IsRefusedAndReadersGoOn()
    {
        await CreateRawAsync("a");
        _files.ReadOnly.Add("a");
        Node file = await AddAsync(File("a", "f") with { AutoReadOnly = true });
        BlockDevice reader = await ServeAsync(file, "reader", writable: false);
        BlockMountException error = await Assert.ThrowsAsync<BlockMountException>(() => ServeAsync(file, "writer", writable: true));
        Assert.Equal("Could not open 'a': Read-only file system", error.Message);
        Assert.Null(_fixture.Graph.TryFindDevice("writer"));
        _ = Assert.Single(file.Parents);
        await reader.ReadAsync(0, new byte[512]);
        _files.ReadOnly.Clear();
        Assert.False((await ServeAsync(file, "writer", writable: true)).ReadOnly);
    }

    [Fact]
    public async Task Image_WhereWritingIsRefused_IsOpenedForReadingAndLaterForWriting()
    {
        await CreateImageAsync("a");
        _files.ReadOnly.Add("a");
        Qcow2NodeOptions options = new() { NodeName = "q", File = ChildOption.Of(File("a", null)) };
        BlockMountException error = await Assert.ThrowsAsync<BlockMountException>(() => AddAsync(options));
        Assert.Equal("Could not open 'a': Read-only file system", error.Message);
        error = await Assert.ThrowsAsync<BlockMountException>(() => AddAsync(options with { File = ChildOption.Of(File("a", null) with { AutoReadOnly = true }) }));
        Assert.Equal("Could not open 'a': Read-only file system", error.Message);
        Node image = await AddAsync(options with { AutoReadOnly = true });
        Assert.True(image.WaitsForWriter);
        _files.ReadOnly.Clear();
        BlockDevice device = await ServeAsync(image, "drive0", writable: true);
        await device.WriteAsync(0, new byte[] { 7 });
        Assert.False(image.ReadOnly);
    }

    [Fact]
    public async Task Image_OnAFileThatWaits_OpensItForWritingAtOnce()
    {
        await CreateImageAsync("a");
        Node file = await AddAsync(File("a", "f") with { AutoReadOnly = true });
        Assert.True(file.ReadOnly);
        Node image = await AddAsync(new Qcow2NodeOptions { NodeName = "q", File = ChildOption.Of("f") });
        Assert.False(file.ReadOnly);
        Assert.False(image.ReadOnly);
    }

    [Fact]
    public async Task ReadOnly_OnAWritableNodeBelow_IsHeededByEveryDriver()
    {
        await CreateRawAsync("a");
        await AddAsync(File("a", "f"));
        await _fixture.SetThrottleGroupAsync("g", new ThrottleLimits());
        NodeOptions[] all =
        [
            new RawNodeOptions { NodeName = "r", ReadOnly = true, File = ChildOption.Of("f") },
            new ThrottleNodeOptions { NodeName = "t", ReadOnly = true, File = ChildOption.Of("f"), Group = "g" },
            new BlkdebugNodeOptions { NodeName = "b", ReadOnly = true, Image = ChildOption.Of("f") },
        ];
        foreach (NodeOptions options in all)
        {
            Node node = await AddAsync(options);
            Assert.True(node.ReadOnly, options.Driver);
            GraphException error = await Assert.ThrowsAsync<GraphException>(() => ServeAsync(node, "drive0", writable: true));
            Assert.Equal("Block node is read-only", error.Message);
        }

        Assert.False(_fixture.Graph.Find("f").ReadOnly);
    }

    private static FileNodeOptions File(string name, string? node) => new() { FileName = name, NodeName = node };

    private Task<Node> AddAsync(NodeOptions options) => _fixture.Loop.RunAsync(scope => NodeOperations.AddAsync(scope, options));

    private Task<BlockDevice> ServeAsync(Node node, string name, bool writable) => _fixture.Loop.RunAsync(
        scope => _fixture.Graph.AddDeviceAsync(scope, node, new DeviceOptions { Name = name, Writable = writable }));

    private async Task CreateRawAsync(string name)
    {
        MemoryFile file = new(name);
        await file.ResizeAsync(Size);
        _files.Memory.Add(name, file);
    }

    private async Task CreateImageAsync(string name)
    {
        MemoryFile file = new(name);
        await BlockMount.Formats.Qcow2.Qcow2Create.CreateAsync(file, new BlockMount.Formats.Qcow2.Qcow2CreateOptions { Size = Size });
        _files.Memory.Add(name, file);
    }

    /// <summary>Files in memory, some of which cannot be opened for writing.</summary>
    private sealed class GuardedStorage : IStorageOpener
    {
        internal MemoryStorage Memory { get; } = new();

        internal HashSet<string> ReadOnly { get; } = [];

        public ValueTask<StorageFile> OpenAsync(string path, StorageOpenOptions options) => !options.ReadOnly && ReadOnly.Contains(path)
            ? throw new BlockMountException($"Could not open '{path}': Read-only file system")
            : Memory.OpenAsync(path, options);
    }
}
