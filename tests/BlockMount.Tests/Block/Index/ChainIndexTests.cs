using BlockMount.Base;
using BlockMount.Block.Devices;
using BlockMount.Block.Index;
using BlockMount.Block.Nodes;
using BlockMount.Formats;
using BlockMount.Formats.Qcow2;
using BlockMount.Formats.Raw;
using BlockMount.TestSupport;
using BlockMount.TestSupport.Faults;
using BlockMount.TestSupport.Images;
using BlockMount.TestSupport.Mutants;
using Xunit;

namespace BlockMount.Tests.Block.Index;

/// <summary>What an index costs, when it is dropped, and what it does not keep.</summary>
public sealed class ChainIndexTests
{
    private const int Cluster = 4096;
    private const int Size = 1 << 20;
    private const long Plenty = 1 << 20;

#if DEBUG
    // There the compiler makes every async method a class.
    private const string? Skipped = "only optimised builds keep async methods off the heap: run the tests with -c Release";
#else
    private const string? Skipped = null;
#endif

    [Theory]
    [InlineData(1)]
    [InlineData(8)]
    [InlineData(64)]
    [InlineData(200)]
    public async Task WarmRead_AtAnyDepth_AsksTheActiveLayerOnceAndNobodyElse(int depth)
    {
        Calls calls = new();
        await using BlockDevice device = await DeepAsync(depth, calls);
        await ReadEverythingAsync(device);
        calls.Clear();
        byte[] buffer = new byte[512];
        // Each cluster, whether it is data of one of the layers, zeros or a hole.
        for (long offset = 0; offset < Size; offset += Cluster)
        {
            await device.ReadAsync(offset, buffer);
        }

        Assert.Equal((Size / Cluster, 0, 0), (calls.Top, calls.Below, calls.Cached));
    }

    [Fact(Skip = Skipped)]
    public async Task WarmRead_OfDataZerosAndHoles_AllocatesNothing()
    {
        await using BlockDevice device = await DeepAsync(64, new Calls());
        byte[] buffer = new byte[512];
        ReadAll(device, buffer);
        ReadAll(device, buffer);
        long before = GC.GetAllocatedBytesForCurrentThread();
        ReadAll(device, buffer);
        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
    }

    [Fact]
    public async Task EdgesOfNewClusters_AreJudgedByTheIndex()
    {
        Calls calls = new();
        await using BlockDevice device = await DeepAsync(64, calls);
        await ReadEverythingAsync(device);
        calls.Clear();
        byte[] before = new byte[Cluster];
        await device.ReadAsync(0, before);
        await device.WriteAsync(512, new byte[] { 1, 2, 3 });
        await device.WriteAsync(Size - Cluster + 512, new byte[] { 4 });
        Assert.Equal((0, 0), (calls.Below, calls.Cached));
        byte[] after = new byte[Cluster];
        await device.ReadAsync(0, after);
        new byte[] { 1, 2, 3 }.CopyTo(before, 512);
        Assert.Equal(before, after);
    }

    [Fact]
    public async Task ReplacedChain_IsReadAnew_AndTheMemoryGoesWithTheRoot()
    {
        await using BlockDevice device = new("test", await OverRawAsync(fill: 1, Plenty), readOnly: false);
        Node before = device.Root;
        Assert.Equal(1, await ByteAsync(device, 4096));
        await device.RunDrainedAsync(async old =>
        {
            await old.DisposeAsync();
            return await OverRawAsync(fill: 2, indexBytes: 0);
        });
        Assert.Equal(2, await ByteAsync(device, 4096));
        Assert.Equal((0, Plenty), (before.IndexBytes, device.Root.IndexBytes));
        Assert.Null(((FormatNode)before).Index);
        Assert.NotNull(((FormatNode)device.Root).Index);

        // Unless the new root has been given memory of its own.
        await device.RunDrainedAsync(async old =>
        {
            await old.DisposeAsync();
            return await OverRawAsync(fill: 3, indexBytes: 8192);
        });
        Assert.Equal(3, await ByteAsync(device, 4096));
        Assert.Equal(8192, device.Root.IndexBytes);
    }

    // Proves that the test above could fail: a chain that changes although nobody says so is still read as it was.
    [Fact]
    public async Task ChangedBehindTheIndex_WithoutADrop_IsNotNoticed()
    {
        MemoryFile raw = new("raw", readOnly: false, new byte[Size]);
        MovingDriver moving = new(new RawDriver(raw.Reopen(readOnly: true)), new MemoryFile("other", readOnly: true, Filled(7)));
        await using BlockDevice device = new("test", await OverAsync(new FormatNode("base", "base", moving, null), Plenty), readOnly: false);
        Assert.Equal(0, await ByteAsync(device, 0));
        moving.Moved = true;
        Assert.Equal(0, await ByteAsync(device, 0));
        await device.RunDrainedAsync(static root => new ValueTask<Node>(root));
        Assert.Equal(7, await ByteAsync(device, 0));
    }

    [Fact]
    public async Task FailedChange_DropsTheIndexToo()
    {
        await using BlockDevice device = new("test", await OverRawAsync(fill: 1, Plenty), readOnly: false);
        _ = await ByteAsync(device, 0);
        ChainIndex? before = ((FormatNode)device.Root).Index;
        await Assert.ThrowsAsync<InvalidOperationException>(async () => await device.RunDrainedAsync(_ => throw new InvalidOperationException()));
        Assert.NotSame(before, ((FormatNode)device.Root).Index);
        Assert.Equal(1, await ByteAsync(device, 0));
    }

    [Fact]
    public async Task WritableBackingNode_IsNeverMapped()
    {
        MemoryFile raw = new("raw", readOnly: false, new byte[Size]);
        FormatNode writable = new("base", "base", new RawDriver(raw), null);
        await using BlockDevice direct = new("direct", await OverAsync(writable, Plenty), readOnly: false);
        Assert.Null(((FormatNode)direct.Root).Index);

        MemoryFile lower = new("lower", readOnly: false, EmptyImage.Create(new ImageGeometry { ClusterBits = 12, Size = Size }));
        FormatNode changing = new("changing", "lower", await Qcow2Driver.OpenAsync(lower, new Qcow2OpenOptions()), null);
        FormatNode between = await OverAsync(changing, indexBytes: 0, readOnly: true);
        await using BlockDevice device = new("test", await OverAsync(between, Plenty), readOnly: false);
        Assert.Equal(0, await ByteAsync(device, 4096));
        await changing.WriteAsync(4096, Filled(9).AsMemory(0, 512));
        Assert.Equal(9, await ByteAsync(device, 4096));
        await changing.DiscardAsync(4096, 4096);
        Assert.Equal(0, await ByteAsync(device, 4096));
    }

    [Fact]
    public async Task ErrorOfALayer_FailsTheRequestAndIsForgotten()
    {
        MemoryFile image = new("lower", readOnly: false, EmptyImage.Create(new ImageGeometry { ClusterBits = 12, Size = Size }));
        await using (FormatNode node = new("lower", "lower", await Qcow2Driver.OpenAsync(image.Reopen(), new Qcow2OpenOptions()), null))
        {
            await node.WriteAsync(0, Filled(5));
        }

        FaultyFile file = new(image.Reopen(readOnly: true));
        FormatNode below = new("lower", "lower", await Qcow2Driver.OpenAsync(file, new Qcow2OpenOptions { ReadOnly = true }), null);
        await using BlockDevice device = new("test", await OverAsync(below, Plenty), readOnly: false);
        file.SetPlan(new FaultPlan { Calls = StorageCalls.Read, FailFrom = 1, Forever = true });
        BlockIOException error = await Assert.ThrowsAsync<BlockIOException>(async () => await ByteAsync(device, 8192));
        Assert.Equal(Errno.EIO, error.Errno);
        file.SetPlan(null);
        Assert.Equal(5, await ByteAsync(device, 8192));
        // Known by now: the data cannot be read, but nobody asks for tables.
        file.SetPlan(new FaultPlan { Calls = StorageCalls.Read, FailFrom = 1, Forever = true });
        await Assert.ThrowsAsync<BlockIOException>(async () => await ByteAsync(device, 8192));
        file.SetPlan(null);
        Assert.Equal(5, await ByteAsync(device, 8192));
    }

    // Looking ahead over a damaged entry says nothing; the request that needs it hears of it, each time.
    [Fact]
    public async Task DamagedEntry_FailsItsOwnReadsOnly_AndIsReportedOnlyThen()
    {
        MemoryFile image = new("lower", readOnly: false, EmptyImage.Create(new ImageGeometry { ClusterBits = 12, Size = Size }));
        long table;
        Qcow2Driver driver = await Qcow2Driver.OpenAsync(image.Reopen(), new Qcow2OpenOptions());
        await using (FormatNode node = new("lower", "lower", driver, null))
        {
            await node.WriteAsync(0, Filled(5));
            table = driver.Header.L1TableOffset;
        }

        byte[] bytes = image.ToArray();
        long l2 = System.Buffers.Binary.BinaryPrimitives.ReadInt64BigEndian(bytes.AsSpan((int)table)) & 0x00ff_ffff_ffff_fe00;
        System.Buffers.Binary.BinaryPrimitives.WriteUInt64BigEndian(bytes.AsSpan((int)l2 + (3 * 8)), 0x8000_0000_0000_0200);
        List<CorruptionReport> reports = [];
        Qcow2Driver damaged = await Qcow2Driver.OpenAsync(
            new MemoryFile("damaged", readOnly: true, bytes), new Qcow2OpenOptions { ReadOnly = true, OnCorruption = reports.Add });
        await using BlockDevice device = new("test", await OverAsync(new FormatNode("damaged", "damaged", damaged, null), Plenty), readOnly: false);
        for (int round = 0; round < 2; round++)
        {
            Assert.Equal(5, await ByteAsync(device, 0));
            Assert.Equal(5, await ByteAsync(device, 2 * Cluster));
            Assert.Equal(5, await ByteAsync(device, 4 * Cluster));
            Assert.Equal(round, reports.Count);
            BlockIOException error = await Assert.ThrowsAsync<BlockIOException>(async () => await ByteAsync(device, 3 * Cluster));
            Assert.Equal(Errno.EIO, error.Errno);
            Assert.Single(reports);
        }
    }

    [Fact]
    public async Task RandomReadsAllOverALargeSparseChain_StayWithinTheBudget()
    {
        const long budget = 64 << 10;
        await using BlockDevice device = new("test", await SparseAsync(1L << 40, layers: 8, budget), readOnly: true);
        Random random = new(3);
        byte[] buffer = new byte[4096];
        for (int i = 0; i < 20_000; i++)
        {
            await device.ReadAsync(random.NextInt64(1L << 28) << 12, buffer);
        }

        Assert.InRange(((FormatNode)device.Root).Index!.AllocatedBytes, 1, budget);
    }

    private static async Task ReadEverythingAsync(BlockDevice device)
    {
        byte[] all = new byte[Size];
        await device.ReadAsync(0, all);
        Assert.Contains((byte)1, all);
    }

    private static void ReadAll(BlockDevice device, byte[] buffer)
    {
        for (long offset = 0; offset < Size; offset += 512)
        {
            AtOnce(device.ReadAsync(offset, buffer));
        }
    }

    private static void AtOnce(ValueTask request)
    {
        Assert.True(request.IsCompletedSuccessfully);
        request.GetAwaiter().GetResult();
    }

    // Each layer holds two clusters, one of data and one of zeros; the last quarter of the disk is a hole through all of them.
    private static async Task<BlockDevice> DeepAsync(int depth, Calls calls)
    {
        Node? below = null;
        for (int i = 0; i < depth; i++)
        {
            ImageGeometry geometry = new() { ClusterBits = 12, Size = Size };
            byte[] empty = below is null ? EmptyImage.Create(geometry) : EmptyImage.Create(geometry, "below", "qcow2");
            MemoryFile file = new("layer", readOnly: false, empty);
            FormatNode node = new("layer", "layer", await Qcow2Driver.OpenAsync(file.Reopen(), new Qcow2OpenOptions()), null);
            await node.WriteAsync(i * 2 % 192 * Cluster, Filled(1).AsMemory(0, Cluster));
            await node.ZeroAsync(((i * 2) + 3) % 192 * Cluster, Cluster, ZeroFlags.None);
            await node.DisposeAsync();
            Qcow2Driver driver = await Qcow2Driver.OpenAsync(file.Reopen(readOnly: true), new Qcow2OpenOptions { ReadOnly = true, CacheBytes = 1 });
            below = new FormatNode("layer", "layer", new CountingDriver(driver, calls, isTop: false), below);
        }

        FormatNode top = await OverAsync(below!, Plenty, calls: calls);
        return new BlockDevice("deep", top, readOnly: false);
    }

    private static async Task<FormatNode> OverAsync(Node below, long indexBytes, bool readOnly = false, Calls? calls = null)
    {
        MemoryFile file = new("top", readOnly, EmptyImage.Create(new ImageGeometry { ClusterBits = 12, Size = Size }, "below", "qcow2"));
        FormatDriver driver = await Qcow2Driver.OpenAsync(file, new Qcow2OpenOptions { ReadOnly = readOnly });
        FormatNode node = new("top", "top", calls is null ? driver : new CountingDriver(driver, calls, isTop: true), below);
        node.IndexBelow(indexBytes);
        return node;
    }

    private static Task<FormatNode> OverRawAsync(byte fill, long indexBytes) =>
        OverAsync(new FormatNode("raw", "raw", new RawDriver(new MemoryFile("raw", readOnly: true, Filled(fill))), null), indexBytes);

    private static async Task<Node> SparseAsync(long size, int layers, long indexBytes)
    {
        Node? below = null;
        for (int i = 0; i < layers; i++)
        {
            MemoryFile file = new("layer");
            await Qcow2Create.CreateAsync(file, new Qcow2CreateOptions { Size = size });
            FormatNode node = new("layer", "layer", await Qcow2Driver.OpenAsync(file.Reopen(), new Qcow2OpenOptions()), null);
            for (int k = 0; k < 16; k++)
            {
                await node.WriteAsync((size / 16 * k) + ((long)i << 17), Filled(1).AsMemory(0, 4096));
            }

            await node.DisposeAsync();
            below = new FormatNode("layer", "layer", await Qcow2Driver.OpenAsync(file.Reopen(readOnly: true), new Qcow2OpenOptions { ReadOnly = true }), below);
        }

        below!.IndexBelow(indexBytes);
        return below;
    }

    private static byte[] Filled(byte value)
    {
        byte[] bytes = new byte[Size];
        bytes.AsSpan().Fill(value);
        return bytes;
    }

    private static async Task<byte> ByteAsync(BlockDevice device, long offset)
    {
        byte[] one = new byte[1];
        await device.ReadAsync(offset, one);
        return one[0];
    }

    private sealed class Calls
    {
        public int Top { get; set; }

        public int Below { get; set; }

        public int Cached { get; set; }

        public void Clear() => (Top, Below, Cached) = (0, 0, 0);
    }

    private sealed class CountingDriver(FormatDriver inner, Calls calls, bool isTop) : MutantDriver(inner)
    {
        public override bool TryMapCached(long offset, long length, out Mapping mapping)
        {
            calls.Cached++;
            return base.TryMapCached(offset, length, out mapping);
        }

        protected override ValueTask<Mapping> MapCoreAsync(long offset, long length, MapPurpose purpose)
        {
            _ = isTop ? calls.Top++ : calls.Below++;
            return base.MapCoreAsync(offset, length, purpose);
        }
    }

    /// <summary>Breaks the promise that an image which is open read-only does not change. Owns the other file.</summary>
    private sealed class MovingDriver(FormatDriver inner, MemoryFile other) : MutantDriver(inner)
    {
        public bool Moved { get; set; }

        public override bool TryMapCached(long offset, long length, out Mapping mapping)
        {
            bool told = base.TryMapCached(offset, length, out mapping);
            mapping = Move(mapping);
            return told;
        }

        public override async ValueTask DisposeAsync()
        {
            await base.DisposeAsync();
            await other.DisposeAsync();
        }

        protected override async ValueTask<Mapping> MapCoreAsync(long offset, long length, MapPurpose purpose) =>
            Move(await base.MapCoreAsync(offset, length, purpose));

        private Mapping Move(Mapping mapping) => Moved ? mapping with { File = other } : mapping;
    }
}
