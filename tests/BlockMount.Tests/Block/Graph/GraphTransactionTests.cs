using BlockMount.Block.Devices;
using BlockMount.Block.Graph;
using Xunit;

namespace BlockMount.Tests.Block.Graph;

/// <summary>Changes that happen all or not at all: their order, and what is left of those that do not happen (FEATURES N5).</summary>
public sealed class GraphTransactionTests : IAsyncDisposable
{
    private const int Size = 1 << 20;

    private readonly GraphFixture _fixture = new();

    public async ValueTask DisposeAsync() => await _fixture.DisposeAsync();

    [Fact]
    public async Task Parts_AllSucceed_EachIsPreparedBeforeAnyIsCommittedAndDrainedUntilThen()
    {
        BlockDevice device = await ServeAsync("a", "drive0");
        List<string> order = [];
        Task? read = null;
        await _fixture.RunAsync(scope => GraphTransaction.RunAsync(
            scope,
            async transaction =>
            {
                await transaction.DrainAsync(device.Root);
                read = device.ReadAsync(0, new byte[512]).AsTask();
                Add(transaction, "first");
            },
            transaction =>
            {
                Add(transaction, "second");
                return ValueTask.CompletedTask;
            }));
        await read!.WaitAsync(TimeSpan.FromSeconds(10));
        Assert.Equal(["prepare first", "prepare second", "commit second", "commit first", "clean first", "clean second"], order);

        void Add(GraphTransaction transaction, string name)
        {
            order.Add($"prepare {name}");
            transaction.OnCommit(() => Note($"commit {name}"));
            transaction.OnAbort(() => Note($"abort {name}"));
            transaction.OnClean(() => Note($"clean {name}"));
        }

        ValueTask Note(string what)
        {
            // Whatever is committed is committed while nobody is let in; cleaning up keeps nobody waiting.
            Task entering = device.ReadAsync(0, new byte[512]).AsTask();
            Assert.Equal(what.StartsWith("clean", StringComparison.Ordinal), entering.IsCompleted);
            order.Add(what);
            return ValueTask.CompletedTask;
        }
    }

    // Also when undoing fails, too: then that is reported, and the rest is undone all the same.
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Part_Fails_EverythingIsUndoneTheLastFirstAndRequestsGoOn(bool undoFails)
    {
        BlockDevice device = await ServeAsync("a", "drive0");
        List<string> undone = [];
        Task? write = null;
        InvalidOperationException error = await Assert.ThrowsAsync<InvalidOperationException>(() => _fixture.RunAsync(scope => GraphTransaction.RunAsync(
            scope,
            async transaction =>
            {
                transaction.OnCommit(() => throw new InvalidOperationException("committed"));
                transaction.OnAbort(() => Undo("one"));
                await transaction.DrainAsync(device.Root);
                write = device.WriteAsync(0, new byte[512]).AsTask();
                transaction.OnAbort(() => undoFails ? throw new InvalidOperationException("two") : Undo("two"));
                transaction.OnAbort(() => Undo("three"));
            },
            _ => throw new InvalidOperationException("the part"))));
        Assert.Equal("the part", error.Message);
        Assert.Equal(undoFails ? ["three", "one"] : ["three", "two", "one"], undone);
        Assert.Equal(undoFails ? 1 : 0, _fixture.Leftovers.Count);
        await write!.WaitAsync(TimeSpan.FromSeconds(10));
        // The graph's mutex is free as well.
        await SnapshotAsync("drive0", "b").WaitAsync(TimeSpan.FromSeconds(10));

        ValueTask Undo(string what)
        {
            undone.Add(what);
            return ValueTask.CompletedTask;
        }
    }

    [Fact]
    public async Task SnapshotsOfSeveralDevices_OneIsRefused_NoFileNameOrPermissionIsLeft()
    {
        BlockDevice one = await ServeAsync("a", "drive0");
        BlockDevice two = await ServeAsync("b", "drive1");
        string before = Describe();
        GraphException error = await Assert.ThrowsAsync<GraphException>(() => _fixture.RunAsync(scope => GraphTransaction.RunAsync(
            scope, Snapshot("drive0", "o1", "over1"), Snapshot("drive1", "o2", "over2"), Snapshot("drive1", "o3", "over1"))));
        Assert.Equal("New overlay node-name already in use", error.Message);
        Assert.Equal(["a", "b"], _fixture.Memory.Names);
        Assert.Equal(before, Describe());
        Assert.Equal(2, _fixture.Memory.OpenHandles);
        await one.WriteAsync(0, new byte[] { 1 });
        await two.WriteAsync(0, new byte[] { 2 });
        // The names and the files are free.
        await _fixture.RunAsync(scope => GraphTransaction.RunAsync(scope, Snapshot("drive0", "o1", "over1"), Snapshot("drive1", "o2", "over2")));
        Assert.Equal(["a", "b", "o1", "o2"], _fixture.Memory.Names);
        Assert.Equal("over1", one.Root.Name);
        Assert.Equal("over2", two.Root.Name);
        Assert.Empty(_fixture.Leftovers);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task TwoSnapshotsOfOneDevice_InOneChange_AreBothThereOrNeither(bool aborted)
    {
        BlockDevice device = await ServeAsync("a", "drive0");
        await device.WriteAsync(0, new byte[] { 7 });
        string before = Describe();
        Func<GraphTransaction, ValueTask>[] parts = [Snapshot("drive0", "o1", "over1"), Snapshot("drive0", "o2", "over2")];
        if (aborted)
        {
            await Assert.ThrowsAsync<GraphException>(() => _fixture.RunAsync(
                scope => GraphTransaction.RunAsync(scope, [.. parts, _ => throw new GraphException("Transaction aborted using Abort action")])));
            Assert.Equal(["a"], _fixture.Memory.Names);
            Assert.Equal(before, Describe());
        }
        else
        {
            await _fixture.RunAsync(scope => GraphTransaction.RunAsync(scope, parts));
            Assert.Equal("over2", device.Root.Name);
            Assert.Equal("over1", device.Root.Backing!.Name);
            Assert.True(device.Root.Backing.ReadOnly);
        }

        byte[] read = new byte[1];
        await device.ReadAsync(0, read);
        Assert.Equal(7, read[0]);
        await device.WriteAsync(0, new byte[] { 8 });
        Assert.Empty(_fixture.Leftovers);
        await _fixture.DisposeAsync();
        Assert.Equal(0, _fixture.Memory.OpenHandles);
    }

    // A device that the refused users conflict with is found when everything else is done already.
    [Fact]
    public async Task Permissions_ConflictAtTheEnd_ChangeIsUndone()
    {
        BlockDevice device = await ServeAsync("a", "drive0");
        await _fixture.CreateImageAsync("b", Size);
        string before = Describe();
        GraphException error = await Assert.ThrowsAsync<GraphException>(() => _fixture.RunAsync(scope => GraphTransaction.RunAsync(
            scope,
            Snapshot("drive0", "o1", "over1"),
            async transaction =>
            {
                await transaction.DrainAsync(device.Root);
                // Writes to the image's file, which the image wants for itself.
                NodeEdge edge = NodeEdge.Attach(new Intruder(), NodeEdge.RootRole, transaction.Graph.Find("over1").ChildIn(NodeEdge.FileRole)!.Child, EdgePermissions.ForDevice(true));
                transaction.OnAbort(() =>
                {
                    edge.Detach();
                    return ValueTask.CompletedTask;
                });
            })));
        Assert.Contains("Permission conflict on node", error.Message, StringComparison.Ordinal);
        Assert.Equal(before, Describe());
        Assert.Equal(["a", "b"], _fixture.Memory.Names);
        await device.WriteAsync(0, new byte[512]);
        Assert.Empty(_fixture.Leftovers);
    }

    private static Func<GraphTransaction, ValueTask> Snapshot(string device, string file, string node) => transaction =>
        SnapshotOperations.SnapshotSyncAsync(transaction, new SnapshotSyncOptions { Device = device, SnapshotFile = file, SnapshotNodeName = node });

    private Task SnapshotAsync(string device, string file) => _fixture.RunAsync(
        scope => SnapshotOperations.SnapshotSyncAsync(scope, new SnapshotSyncOptions { Device = device, SnapshotFile = file }));

    private async Task<BlockDevice> ServeAsync(string file, string device)
    {
        await _fixture.CreateImageAsync(file, Size);
        return await _fixture.ServeAsync(file, device, $"node-{file}");
    }

    // Every node with its users and what they hold.
    private string Describe() => string.Join("; ", _fixture.Graph.Nodes.Select(node =>
        $"{node.Name} {(node.ReadOnly ? "ro" : "rw")}: {string.Join(", ", node.Parents.Select(edge => $"{edge.Parent.UserDescription} {edge.Role} {edge.Permissions}"))}"));

    private sealed class Intruder : IEdgeUser
    {
        public string UserDescription => "an intruder";

        void IEdgeUser.ChildReplaced(NodeEdge edge)
        {
        }
    }
}
