using BlockMount.Block.Devices;
using BlockMount.Block.Graph;
using BlockMount.Block.Nodes;
using BlockMount.Block.Options;
using BlockMount.Formats;
using Xunit;

namespace BlockMount.Tests.Block.Graph;

/// <summary>FEATURES D6: what is read from below is in the image above afterwards, and no concurrent write is lost by it.</summary>
public sealed class CopyOnReadTests
{
    private const int Cluster = 4096;
    private const int Clusters = 64;
    private const int Size = Cluster * Clusters;

    [Fact]
    public async Task Read_FromTheBackingFile_IsInTheImageAfterwards()
    {
        await using GraphFixture fixture = await NewAsync();
        BlockDevice device = await ServeAsync(fixture, new CopyOnReadNodeOptions { NodeName = "cor", File = ChildOption.Of("top") });
        Assert.Equal(2, (await DepthAsync(fixture, 5)).Depth);
        // In the middle of a cluster and into the next one: both come up as a whole.
        Assert.Equal(6, (await ReadAsync(device, (5 * Cluster) + 100, Cluster))[0]);
        Assert.Equal(1, (await DepthAsync(fixture, 5)).Depth);
        Assert.Equal(1, (await DepthAsync(fixture, 6)).Depth);
        Assert.Equal(2, (await DepthAsync(fixture, 4)).Depth);
        Assert.Equal(2, (await DepthAsync(fixture, 7)).Depth);
        Assert.Equal(Enumerable.Repeat((byte)6, Cluster), await ReadAsync(device, 5 * Cluster, Cluster));
        // Written since: that is not copied over.
        await device.WriteAsync(9 * Cluster, Filled(200, Cluster));
        Assert.Equal(Enumerable.Repeat((byte)200, Cluster), await ReadAsync(device, 9 * Cluster, Cluster));
        Assert.Empty(fixture.Leftovers);
    }

    [Fact]
    public async Task Read_WhereEverythingBelowIsZero_LeavesTheImageAsItIs()
    {
        await using GraphFixture fixture = await NewAsync();
        await fixture.CreateImageAsync("empty", Size, new BackingReference("empty-base", "qcow2"), Cluster);
        await fixture.CreateImageAsync("empty-base", Size, clusterSize: Cluster);
        Node image = await AddAsync(fixture, new Qcow2NodeOptions { NodeName = "image", File = File("empty"), Backing = Image("empty-base") });
        BlockDevice device = await ServeAsync(fixture, new CopyOnReadNodeOptions { NodeName = "cor", File = ChildOption.Of("image") });
        long before = fixture.Memory["empty"].Length;
        Assert.Equal(new byte[Size], await ReadAsync(device, 0, Size));
        Assert.Equal(before, fixture.Memory["empty"].Length);
        Assert.Equal(0, (await image.StatusAsync(0, Size, MapPurpose.Status)).Depth);
    }

    [Fact]
    public async Task Read_WithABottom_CopiesNothingFromBelowIt()
    {
        await using GraphFixture fixture = await NewAsync();
        await fixture.CreateImageAsync("over", Size, new BackingReference("a", "qcow2"), Cluster);
        Node over = await AddAsync(fixture, new Qcow2NodeOptions { NodeName = "over", File = File("over"), Backing = ChildOption.Of("top") });
        await ((FormatNode)fixture.Graph.Find("top")).WriteAsync(3 * Cluster, Filled(99, Cluster));
        BlockDevice device = await ServeAsync(fixture, new CopyOnReadNodeOptions { NodeName = "cor", File = ChildOption.Of("over"), Bottom = "top" });
        _ = await ReadAsync(device, 0, Size);
        Assert.Equal(1, (await over.StatusAsync(3 * Cluster, Cluster, MapPurpose.Status)).Depth);
        Assert.Equal(3, (await over.StatusAsync(4 * Cluster, Cluster, MapPurpose.Status)).Depth);
    }

    [Fact]
    public async Task Add_WhatCannotBe_IsRefused()
    {
        await using GraphFixture fixture = await NewAsync();
        await RefusedAsync("Bottom node 'zzz' not found", new CopyOnReadNodeOptions { NodeName = "c", File = ChildOption.Of("top"), Bottom = "zzz" });
        await AddAsync(fixture, new NullNodeOptions { NodeName = "other" });
        await RefusedAsync("Bottom node 'other' is not in the chain of 'top'", new CopyOnReadNodeOptions { NodeName = "c", File = ChildOption.Of("top"), Bottom = "other" });
        await RefusedAsync(
            "Block node is read-only", new CopyOnReadNodeOptions { NodeName = "c", ReadOnly = true, File = ChildOption.Of(new NullNodeOptions()) });
        async Task RefusedAsync(string message, NodeOptions options) =>
            Assert.Equal(message, (await Assert.ThrowsAsync<GraphException>(() => AddAsync(fixture, options))).Message);
    }

    // Through the filter, and around it: another user of the image.
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public async Task Reads_WithWritesAndZeroesOfTheSameClusters_LoseNone(int seed)
    {
        await using GraphFixture fixture = await NewAsync();
        BlockDevice reader = await ServeAsync(fixture, new CopyOnReadNodeOptions { NodeName = "cor", File = ChildOption.Of("top") });
        BlockDevice around = await fixture.Loop.RunAsync(
            scope => fixture.Graph.AddDeviceAsync(scope, fixture.Graph.Find("top"), new DeviceOptions { Name = "around", Writable = true }));
        byte[] model = [.. Enumerable.Range(0, Size).Select(place => (byte)((place / Cluster) + 1))];
        Random random = new(seed);
        using CancellationTokenSource ended = new();
        Task[] reading = [.. Enumerable.Range(0, 3).Select(number => Task.Run(async () =>
        {
            Random places = new((seed * 10) + number);
            while (!ended.IsCancellationRequested)
            {
                _ = await ReadAsync(reader, places.Next(Size - 20_000), places.Next(1, 20_000));
            }
        }))];
        for (int i = 0; i < 2_000; i++)
        {
            int offset = random.Next(Size - 9_000);
            int length = random.Next(1, 9_000);
            BlockDevice device = random.Next(2) == 0 ? reader : around;
            byte value = (byte)random.Next(256);
            await (random.Next(4) == 0 ? device.ZeroAsync(offset, length, ZeroFlags.MayUnmap) : device.WriteAsync(offset, Filled(value, length)));
            byte[] now = await ReadAsync(around, offset, length);
            Assert.True(now[0] == 0 || now[0] == value);
            now.CopyTo(model, offset);
            Assert.True(now.AsSpan().IndexOfAnyExcept(now[0]) < 0, $"step {i}");
        }

        await ended.CancelAsync();
        await Task.WhenAll(reading).WaitAsync(TimeSpan.FromSeconds(30));
        Assert.Equal(model, await ReadAsync(around, 0, Size));
        Assert.Equal(model, await ReadAsync(reader, 0, Size));
    }

    // Image "top" over "a", whose clusters are filled with 1, 2, 3, ...
    private static async Task<GraphFixture> NewAsync()
    {
        GraphFixture fixture = new();
        await fixture.CreateImageAsync("a", Size, clusterSize: Cluster);
        await fixture.CreateImageAsync("b", Size, new BackingReference("a", "qcow2"), Cluster);
        Node low = await AddAsync(fixture, new Qcow2NodeOptions { NodeName = "low", File = File("a") });
        for (int i = 0; i < Clusters; i++)
        {
            await low.WriteAsync(i * Cluster, Filled((byte)(i + 1), Cluster));
        }

        await fixture.RunAsync(scope => NodeOperations.DeleteAsync(scope, "low"));
        await AddAsync(fixture, new Qcow2NodeOptions { NodeName = "top", File = File("b"), Backing = Image("a") });
        return fixture;
    }

    private static ChildOption File(string name) => ChildOption.Of(new FileNodeOptions { FileName = name });

    private static ChildOption Image(string name) => ChildOption.Of(new Qcow2NodeOptions { File = File(name), NoBacking = true });

    private static Task<Node> AddAsync(GraphFixture fixture, NodeOptions options) =>
        fixture.Loop.RunAsync(scope => NodeOperations.AddAsync(scope, options));

    private static async Task<BlockDevice> ServeAsync(GraphFixture fixture, NodeOptions options)
    {
        Node node = await AddAsync(fixture, options);
        return await fixture.Loop.RunAsync(scope => fixture.Graph.AddDeviceAsync(scope, node, new DeviceOptions { Name = "drive0", Writable = true }));
    }

    private static ValueTask<BlockStatus> DepthAsync(GraphFixture fixture, int cluster) =>
        fixture.Graph.Find("top").StatusAsync(cluster * Cluster, Cluster, MapPurpose.Status);

    private static async Task<byte[]> ReadAsync(BlockDevice device, long offset, int length)
    {
        byte[] bytes = new byte[length];
        await device.ReadAsync(offset, bytes);
        return bytes;
    }

    private static byte[] Filled(byte value, int length)
    {
        byte[] bytes = new byte[length];
        Array.Fill(bytes, value);
        return bytes;
    }
}
