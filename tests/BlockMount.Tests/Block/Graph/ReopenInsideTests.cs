using BlockMount.Block.Devices;
using BlockMount.Block.Filters;
using BlockMount.Block.Graph;
using BlockMount.Block.Nodes;
using BlockMount.Block.Options;
using BlockMount.Formats;
using Xunit;

namespace BlockMount.Tests.Block.Graph;

/// <summary>blockdev-reopen with options of children inside: they are reopened, too, or refused in the words of qemu-storage-daemon 7.2; nothing is passed over.</summary>
public sealed class ReopenInsideTests : IAsyncLifetime, IDisposable
{
    private const long Size = 1 << 20;

    private readonly GraphFixture _fixture = new();

    public async Task InitializeAsync()
    {
        await _fixture.CreateImageAsync("a", Size);
        await _fixture.CreateImageAsync("b", Size, new BackingReference("a", "qcow2"));
        await AddAsync(Top());
    }

    // After DisposeAsync, which has done it all.
    public void Dispose() => _fixture.DisposeAsync().AsTask().GetAwaiter().GetResult();

    public async Task DisposeAsync()
    {
        Assert.Empty(_fixture.Leftovers);
        await _fixture.DisposeAsync();
        Assert.Equal(0, _fixture.Memory.OpenHandles);
    }

    [Fact]
    public async Task File_OtherCacheMode_IsReopenedBehindTheImage()
    {
        BlockDevice device = await ServeAsync("top");
        await device.WriteAsync(0, new byte[] { 7 });
        FileNode file = FileOf("top");
        await ReopenAsync(Top() with { File = ChildOption.Of(File("b") with { Direct = true, NoFlush = true, Discard = false }) });
        Assert.Same(file, FileOf("top"));
        Assert.True(file.OpenedWith!.Direct);
        Assert.True(file.OpenedWith.NoFlush);
        Assert.False(file.PassesDiscards);
        // Not repeated: back to what it is by default.
        await ReopenAsync(Top());
        Assert.False(file.OpenedWith.Direct);
        Assert.True(file.PassesDiscards);
        byte[] read = new byte[1];
        await device.ReadAsync(0, read);
        Assert.Equal(7, read[0]);
    }

    [Fact]
    public async Task Backing_OptionsInside_AreTakenOver()
    {
        FormatNode backing = (FormatNode)_fixture.Graph.Find("top").Backing!;
        Assert.True(backing.ReadOnly);
        await ReopenAsync(Top() with { Backing = ChildOption.Of(Below() with { ReadOnly = false }) });
        Assert.Same(backing, _fixture.Graph.Find("top").Backing);
        Assert.False(backing.ReadOnly);
        await ReopenAsync(Top());
        Assert.True(backing.ReadOnly);
    }

    [Fact]
    public async Task ReadOnly_OfTheImage_HoldsForWhatIsDescribedInIt()
    {
        await ReopenAsync(Top() with { ReadOnly = true });
        Assert.True(_fixture.Graph.Find("top").ReadOnly);
        Assert.True(FileOf("top").ReadOnly);
        await ReopenAsync(Top());
        Assert.False(_fixture.Graph.Find("top").ReadOnly);
        Assert.False(FileOf("top").ReadOnly);
    }

    [Fact]
    public async Task WhatCannotBeChanged_IsRefusedAndNothingIsDone()
    {
        await RefusedAsync("Cannot change the option 'filename'", Top() with { File = ChildOption.Of(File("a")) });
        await RefusedAsync("Cannot change the option 'driver'", Top() with { File = ChildOption.Of(File("b") with { IsHostDevice = true }) });
        await RefusedAsync("Option 'filename' cannot be reset to its default value", Top() with { File = ChildOption.Of(new NullNodeOptions()) });
        await RefusedAsync("Cannot change the option 'node-name'", Top() with { File = ChildOption.Of(File("b") with { NodeName = "new" }) });
        await RefusedAsync("Cannot change the option 'locking'", Top() with { File = ChildOption.Of(File("b") with { Lock = false }) });
        await RefusedAsync(
            "Cannot change the option 'aio'", Top() with { File = ChildOption.Of(File("b") with { Engine = BlockMount.Storage.IoEngine.IoUring }) });
        await RefusedAsync("Cannot change the option 'driver'", Top() with { Backing = ChildOption.Of(new NullNodeOptions()) });
        await RefusedAsync("Cannot change the option 'filename'", Top() with { Backing = ChildOption.Of(Below() with { File = ChildOption.Of(File("b")) }) });
        string name = FileOf("top").Name;
        await RefusedAsync($"Read-only block node '{name}' cannot support read-write users", Top() with { File = ChildOption.Of(File("b") with { ReadOnly = true }) });
        await RefusedAsync("No encryption in image header, but options specified format 'luks'", Top() with { EncryptionFormat = "luks" });
        Assert.False(_fixture.Graph.Find("top").ReadOnly);
        Assert.True(_fixture.Graph.Find("top").Backing!.ReadOnly);
        await ReopenAsync(Top());
    }

    [Fact]
    public async Task Backing_MissingOrNoneThere_IsRefused()
    {
        await RefusedAsync("backing is missing for 'top'", Top() with { Backing = null });
        await ReopenAsync(Top() with { Backing = null, NoBacking = true });
        // The header names one all the same.
        await RefusedAsync("backing is missing for 'top'", Top() with { Backing = null });
        await RefusedAsync("Cannot change the option 'backing.driver'", Top());
    }

    [Fact]
    public async Task File_OfANameOfItsOwn_IsNotDescribedInside()
    {
        await _fixture.CreateImageAsync("c", Size);
        await AddAsync(File("c") with { NodeName = "file-c" });
        await AddAsync(new Qcow2NodeOptions { NodeName = "c", File = ChildOption.Of("file-c") });
        await RefusedAsync("Cannot change the option 'file.driver'", new Qcow2NodeOptions { NodeName = "c", File = ChildOption.Of(File("c")) });
    }

    [Fact]
    public async Task Null_SameSizeOrAnother_IsTakenOrRefused()
    {
        await _fixture.SetThrottleGroupAsync("g", new ThrottleLimits());
        ThrottleNodeOptions options = new() { NodeName = "t", Group = "g", File = ChildOption.Of(new NullNodeOptions { Size = 65536, ReadZeroes = true }) };
        await AddAsync(options);
        await ReopenAsync(options);
        await RefusedAsync("Cannot change the option 'size'", options with { File = ChildOption.Of(new NullNodeOptions { Size = 131072, ReadZeroes = true }) });
        await RefusedAsync(
            "Option 'read-zeroes' cannot be reset to its default value", options with { File = ChildOption.Of(new NullNodeOptions { Size = 65536 }) });
        await RefusedAsync("Throttle group 'none' does not exist", options with { Group = "none" });
    }

    // The first entry has reopened a file when the second one is refused.
    [Fact]
    public async Task SecondNodeIsRefused_FirstIsAsBefore()
    {
        FileNode file = FileOf("top");
        GraphException error = await Assert.ThrowsAsync<GraphException>(() => _fixture.RunAsync(scope => NodeOperations.ReopenAsync(
            scope, [Top() with { File = ChildOption.Of(File("b") with { Direct = true }) }, new NullNodeOptions { NodeName = "nobody" }])));
        Assert.Equal("Failed to find node with node-name='nobody'", error.Message);
        Assert.False(file.OpenedWith!.Direct);
        BlockDevice device = await ServeAsync("top");
        await device.WriteAsync(0, new byte[4096]);
        await ReopenAsync(Top());
    }

    private static Qcow2NodeOptions Top() => new() { NodeName = "top", File = ChildOption.Of(File("b")), Backing = ChildOption.Of(Below()) };

    private static Qcow2NodeOptions Below() => new() { File = ChildOption.Of(File("a")) };

    private static FileNodeOptions File(string name) => new() { FileName = name };

    private FileNode FileOf(string node) => (FileNode)_fixture.Graph.Find(node).ChildIn(NodeEdge.FileRole)!.Child;

    private Task<Node> AddAsync(NodeOptions options) => _fixture.Loop.RunAsync(scope => NodeOperations.AddAsync(scope, options));

    private Task ReopenAsync(NodeOptions options) => _fixture.RunAsync(scope => NodeOperations.ReopenAsync(scope, [options]));

    private Task<BlockDevice> ServeAsync(string node) => _fixture.Loop.RunAsync(
        scope => _fixture.Graph.AddDeviceAsync(scope, _fixture.Graph.Find(node), new DeviceOptions { Name = "drive0", Writable = true }));

    private async Task RefusedAsync(string message, NodeOptions options)
    {
        GraphException error = await Assert.ThrowsAsync<GraphException>(() => ReopenAsync(options));
        Assert.Equal(message, error.Message);
    }
}
