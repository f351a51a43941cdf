using BlockMount.Base;
using BlockMount.Block.Devices;
using BlockMount.Block.Graph;
using BlockMount.Block.Nodes;
using BlockMount.Block.Options;
using BlockMount.Formats;
using BlockMount.Storage;
using BlockMount.TestSupport;
using Xunit;

namespace BlockMount.Tests.Block.Graph;

/// <summary>FEATURES Q20, Q21, N5, N6: an overlay takes a node's place for all who use it.</summary>
public sealed class SnapshotOperationsTests
{
    private const int Size = 1 << 20;

    [Fact]
    public async Task SnapshotSync_OfADevice_OldNodeIsReadOnlyBelowAndWritesGoToTheOverlay()
    {
        await using GraphFixture fixture = new();
        await fixture.CreateImageAsync("a.qcow2", Size);
        BlockDevice device = await fixture.ServeAsync("a.qcow2");
        await device.WriteAsync(0, Filled(1));
        await SnapshotAsync(fixture, "drive0", "b.qcow2", "over");
        await device.WriteAsync(4096, Filled(2));
        Assert.Equal("over", device.Root.Name);
        Assert.True(device.Root.Backing!.ReadOnly);
        Assert.Equal("node0", device.Root.Backing.Name);
        Assert.Equal(1, await ByteAsync(device, 0));
        Assert.Equal(2, await ByteAsync(device, 4096));
        await using BlockDevice below = new("below", fixture.Graph.Find("node0"), readOnly: true);
        Assert.Equal(0, await ByteAsync(below, 4096));
        Assert.Equal(new BackingReference("a.qcow2", "qcow2"), ((FormatNode)device.Root).BackingReference);
        Assert.Empty(fixture.Leftovers);
    }

    // As QEMU 7.2: who makes an overlay by hand writes its header by hand, too (change-backing-file).
    [Fact]
    public async Task Snapshot_OverlayThatNamesNoBackingFile_IsUsedAndItsHeaderStaysAsItIs()
    {
        await using GraphFixture fixture = new();
        await fixture.CreateImageAsync("a.qcow2", Size);
        await fixture.CreateImageAsync("b.qcow2", Size);
        BlockDevice device = await fixture.ServeAsync("a.qcow2");
        await device.WriteAsync(0, Filled(1));
        await fixture.Loop.RunAsync(scope => NodeOperations.AddAsync(
            scope, new Qcow2NodeOptions { NodeName = "over", File = ChildOption.Of(new FileNodeOptions { FileName = "b.qcow2" }) }));
        await fixture.RunAsync(scope => SnapshotOperations.SnapshotAsync(scope, "node0", "over"));
        Assert.Equal(1, await ByteAsync(device, 0));
        Assert.Null(((FormatNode)device.Root).BackingReference);
        await fixture.RunAsync(scope => NodeOperations.ChangeBackingFileAsync(scope, "drive0", "over", "a.qcow2"));
        Assert.Equal(new BackingReference("a.qcow2", "qcow2"), ((FormatNode)device.Root).BackingReference);
    }

    [Fact]
    public async Task SnapshotSync_HundredInARow_EachLayerHoldsItsOwn()
    {
        await using GraphFixture fixture = new();
        await fixture.CreateImageAsync("a.qcow2", Size);
        BlockDevice device = await fixture.ServeAsync("a.qcow2");
        for (int i = 0; i < 100; i++)
        {
            await device.WriteAsync(i * 4096, Filled((byte)(i + 1)));
            await SnapshotAsync(fixture, "drive0", $"o{i}.qcow2", $"over{i}");
        }

        for (int i = 0; i < 100; i++)
        {
            Assert.Equal(i + 1, await ByteAsync(device, i * 4096));
        }

        Assert.Empty(fixture.Leftovers);
        await fixture.DisposeAsync();
        Assert.Equal(0, fixture.Memory.OpenHandles);
    }

    [Fact]
    public async Task SnapshotSync_WrongArguments_SaySoBeforeAFileIsMade()
    {
        await using GraphFixture fixture = new();
        await fixture.CreateImageAsync("a.qcow2", Size);
        BlockDevice device = await fixture.ServeAsync("a.qcow2");
        SnapshotSyncOptions right = new() { NodeName = "node0", SnapshotFile = "b", SnapshotNodeName = "over" };
        await RefusedAsync(fixture, right with { SnapshotNodeName = null }, "New overlay node-name missing");
        await RefusedAsync(fixture, right with { SnapshotNodeName = "node0" }, "New overlay node-name already in use");
        await RefusedAsync(fixture, right with { SnapshotNodeName = "drive0" }, "New overlay node-name already in use");
        await RefusedAsync(fixture, right with { SnapshotNodeName = "9" }, "Invalid node-name: '9'");
        await RefusedAsync(fixture, right with { NodeName = "x" }, "Cannot find device='' nor node-name='x'");
        await RefusedAsync(fixture, right with { NodeName = null, Device = "x" }, "Cannot find device='x' nor node-name=''");
        await RefusedAsync(fixture, right with { Format = "raw" }, "Backing file not supported for file format 'raw'");
        await RefusedAsync(fixture, right with { Format = "nope" }, "Unknown file format 'nope'");
        Assert.Equal(["a.qcow2"], fixture.Memory.Names);
        Assert.Equal("node0", device.Root.Name);
    }

    [Fact]
    public async Task Transaction_LaterPartFails_OverlayIsGoneAndTheOldNodeIsWritable()
    {
        await using GraphFixture fixture = new();
        await fixture.CreateImageAsync("a.qcow2", Size);
        BlockDevice device = await fixture.ServeAsync("a.qcow2");
        GraphException error = await Assert.ThrowsAsync<GraphException>(() => fixture.RunAsync(scope => GraphTransaction.RunAsync(
            scope,
            transaction => SnapshotOperations.SnapshotSyncAsync(transaction, new SnapshotSyncOptions { Device = "drive0", SnapshotFile = "b" }),
            _ => throw new GraphException("Transaction aborted using Abort action"))));
        Assert.Equal("Transaction aborted using Abort action", error.Message);
        Assert.Equal(["a.qcow2"], fixture.Memory.Names);
        Assert.Equal(["node0", "#block001"], fixture.Graph.Nodes.Select(node => node.Name));
        Assert.Equal(1, fixture.Memory.OpenHandles);
        await device.WriteAsync(0, Filled(7));
        Assert.Equal(7, await ByteAsync(device, 0));
        Assert.Empty(fixture.Leftovers);
    }

    [Fact]
    public async Task SnapshotSync_OnTheHost_LocksGoOverFromWriterToReader()
    {
        using ScratchFolder folder = new();
        await using GraphFixture fixture = new(PosixStorage.Instance);
        await using (StorageFile file = await PosixStorage.Instance.CreateAsync(folder["a"], new StorageCreateOptions()))
        {
            await BlockMount.Formats.Qcow2.Qcow2Create.CreateAsync(file, new BlockMount.Formats.Qcow2.Qcow2CreateOptions { Size = Size });
        }

        BlockDevice device = await fixture.ServeAsync(folder["a"]);
        await device.WriteAsync(0, Filled(3));
        await SnapshotAsync(fixture, "drive0", folder["b"], null);
        Assert.Equal(["a", "b"], Directory.GetFiles(folder.FullPath).Select(Path.GetFileName).Order());
        await using (StorageFile reader = await PosixStorage.Instance.OpenAsync(folder["a"], new StorageOpenOptions { ReadOnly = true }))
        {
            Assert.Equal(Size, device.Size);
        }

        BlockMountException error = await Assert.ThrowsAsync<BlockMountException>(async () => await PosixStorage.Instance.OpenAsync(folder["a"], new StorageOpenOptions()));
        Assert.Contains("Failed to get \"write\" lock", error.Message, StringComparison.Ordinal);
        error = await Assert.ThrowsAsync<BlockMountException>(async () => await PosixStorage.Instance.OpenAsync(folder["b"], new StorageOpenOptions { ReadOnly = true }));
        Assert.Contains("Failed to get shared \"write\" lock", error.Message, StringComparison.Ordinal);
        Assert.Equal(3, await ByteAsync(device, 0));
        // An image that is in use is not replaced, and that is found before anything happens.
        await Assert.ThrowsAsync<BlockMountException>(() => SnapshotAsync(fixture, "drive0", folder["b"], null));
        Assert.Equal(2, Directory.GetFiles(folder.FullPath).Length);
        Assert.Empty(fixture.Leftovers);
    }

    // The overlay replaces a file that is there: the user's, if nothing comes of it.
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Transaction_OverlayReplacesAFile_ItIsBackIfALaterPartFails(bool aborted)
    {
        using ScratchFolder folder = new();
        await using GraphFixture fixture = new(PosixStorage.Instance);
        await CreateAsync(folder["a"], null);
        await File.WriteAllTextAsync(folder["b"], "precious");
        BlockDevice device = await fixture.ServeAsync(folder["a"]);
        Func<GraphTransaction, ValueTask> snapshot = transaction =>
            SnapshotOperations.SnapshotSyncAsync(transaction, new SnapshotSyncOptions { Device = "drive0", SnapshotFile = folder["b"] });
        if (aborted)
        {
            await Assert.ThrowsAsync<GraphException>(() => fixture.RunAsync(
                scope => GraphTransaction.RunAsync(scope, snapshot, _ => throw new GraphException("Transaction aborted using Abort action"))));
            Assert.Equal("precious", await File.ReadAllTextAsync(folder["b"]));
        }
        else
        {
            await fixture.RunAsync(scope => GraphTransaction.RunAsync(scope, snapshot));
            Assert.Equal(folder["b"], device.Root.FileName);
            Assert.True(new FileInfo(folder["b"]).Length > 65536);
        }

        Assert.Equal(["a", "b"], Directory.GetFiles(folder.FullPath).Select(Path.GetFileName).Order());
        await device.WriteAsync(0, Filled(3));
        Assert.Empty(fixture.Leftovers);
    }

    [Fact]
    public async Task Add_ImageWithABackingFile_ChainIsOpenedAndNamedAndGoesWithIt()
    {
        using ScratchFolder folder = new();
        await using GraphFixture fixture = new(PosixStorage.Instance);
        await CreateAsync(folder["a"], null);
        await CreateAsync(folder["b"], new BackingReference("a", "qcow2"));
        await CreateAsync(folder["c"], new BackingReference("b", "qcow2"));
        Qcow2NodeOptions options = new() { NodeName = "top", File = ChildOption.Of(new FileNodeOptions { FileName = folder["c"] }) };
        Node top = await fixture.Loop.RunAsync(scope => NodeOperations.AddAsync(scope, options));
        Assert.Equal(folder["a"], top.Backing!.Backing!.FileName);
        Assert.True(top.Backing.ReadOnly);
        Assert.StartsWith("#block", top.Backing.Name, StringComparison.Ordinal);
        Assert.Equal(6, fixture.Graph.Nodes.Count);
        await fixture.RunAsync(scope => NodeOperations.DeleteAsync(scope, "top"));
        Assert.Empty(fixture.Graph.Nodes);
        File.Delete(folder["a"]);
        GraphException error = await Assert.ThrowsAsync<GraphException>(() => fixture.Loop.RunAsync(scope => NodeOperations.AddAsync(scope, options)));
        Assert.StartsWith("Could not open backing file: Could not open '", error.Message, StringComparison.Ordinal);
        Assert.Empty(fixture.Graph.Nodes);
        await using StorageFile free = await PosixStorage.Instance.OpenAsync(folder["c"], new StorageOpenOptions());
    }

    private static async Task CreateAsync(string path, BackingReference? backing)
    {
        await using StorageFile file = await PosixStorage.Instance.CreateAsync(path, new StorageCreateOptions());
        await BlockMount.Formats.Qcow2.Qcow2Create.CreateAsync(file, new BlockMount.Formats.Qcow2.Qcow2CreateOptions { Size = Size, Backing = backing });
    }

    private static Task SnapshotAsync(GraphFixture fixture, string device, string file, string? node) => fixture.RunAsync(
        scope => SnapshotOperations.SnapshotSyncAsync(scope, new SnapshotSyncOptions { Device = device, SnapshotFile = file, SnapshotNodeName = node }));

    private static async Task RefusedAsync(GraphFixture fixture, SnapshotSyncOptions options, string message)
    {
        GraphException error = await Assert.ThrowsAsync<GraphException>(() => fixture.RunAsync(scope => SnapshotOperations.SnapshotSyncAsync(scope, options)));
        Assert.Equal(message, error.Message);
    }

    private static byte[] Filled(byte value)
    {
        byte[] bytes = new byte[4096];
        Array.Fill(bytes, value);
        return bytes;
    }

    private static async Task<byte> ByteAsync(BlockDevice device, long offset)
    {
        byte[] one = new byte[1];
        await device.ReadAsync(offset, one);
        return one[0];
    }
}
