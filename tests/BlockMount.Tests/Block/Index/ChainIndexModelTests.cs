using BlockMount.Base;
using BlockMount.Block.Devices;
using BlockMount.Block.Nodes;
using BlockMount.Formats;
using BlockMount.TestSupport;
using BlockMount.TestSupport.Images;
using BlockMount.TestSupport.Model;
using BlockMount.TestSupport.Mutants;
using Xunit;
using Xunit.Abstractions;

namespace BlockMount.Tests.Block.Index;

/// <summary>
/// Two disks on one random chain, one with an index and mostly far too little memory for it, one without: whatever is done to both, they read equal and
/// say the same of every range. The chains have up to 12 layers of different cluster sizes and lengths.
/// </summary>
[Trait("Suite", "Random")]
public sealed class ChainIndexModelTests(ITestOutputHelper output)
{
    private const int SizeMax = 96 << 10;
    private const int Operations = 400;
    private const int FirstSeed = 7_000_000;
    private const int Runs = 300;

    private static readonly int[] s_indexBytes = [512, 512, 1024, 4096, 1 << 20];

    private static readonly WorkloadMix s_mix = new()
    {
        { GuestOperationKind.Read, 500 },
        { GuestOperationKind.Write, 150 },
        { GuestOperationKind.WriteCompressed, 30 },
        { GuestOperationKind.Zero, 40 },
        { GuestOperationKind.ZeroMayUnmap, 40 },
        { GuestOperationKind.Discard, 60 },
        { GuestOperationKind.Flush, 10 },
        { GuestOperationKind.Resize, 15 },
        { GuestOperationKind.SnapshotCreate, 6 },
        { GuestOperationKind.SnapshotApply, 6 },
        { GuestOperationKind.SnapshotDelete, 4 },
    };

    [Fact]
    public async Task RandomOperations_OnRandomChains_ReadAsWithoutIndex()
    {
        int operations = 0;
        foreach (int seed in TestBudget.Seeds(FirstSeed, Runs))
        {
            operations += await RunAsync(seed);
        }

        output.WriteLine(TestBudget.Count(operations, "operations beside a disk without index", Runs * Operations));
    }

    /// <summary>Mistakes of a layer's answers: what the harness must see.</summary>
    [Theory]
    [InlineData(typeof(NotLoadedIsBacking))]
    [InlineData(typeof(ZerosDoNotStop))]
    [InlineData(typeof(OneClusterTooFar))]
    public async Task MistakeInWhatIsKept_IsReported(Type mistake)
    {
        for (int seed = FirstSeed; seed < FirstSeed + 40; seed++)
        {
            try
            {
                await RunAsync(seed, (_, driver) => (FormatDriver)Activator.CreateInstance(mistake, driver)!);
            }
            catch (ModelMismatchException found)
            {
                output.WriteLine($"found by run {seed - FirstSeed + 1}: {found.Message}");
                await RunAsync(seed);
                return;
            }
        }

        Assert.Fail("the harness does not find the mistake");
    }

    private static async Task<int> RunAsync(int seed, Func<int, FormatDriver, FormatDriver>? wrap = null)
    {
        Random random = new(seed);
        LayeredChain chain = await LayeredChain.CreateAsync(random, random.Next(1, 13), SizeMax);
        long size = Alignment.Up(random.Next(2) == 0 ? random.Next(512, SizeMax) : chain.Content.Length, 512);
        ImageGeometry geometry = new() { ClusterBits = random.Next(9, 14), Size = size, Backing = BackingKind.Qcow2, TinyCache = random.Next(2) == 0 };
        int indexBytes = s_indexBytes[random.Next(s_indexBytes.Length)];
        await using BlockDevice indexed = new("indexed", await chain.OpenUnderAsync(geometry, indexBytes, wrap), readOnly: false);
        await using BlockDevice plain = new("plain", await chain.OpenUnderAsync(geometry, indexBytes: 0), readOnly: false);
        Assert.NotNull(((FormatNode)indexed.Root).Index);
        List<GuestOperation> operations = new WorkloadGenerator(random, geometry.ClusterSize, size, SizeMax, granularity: 1, s_mix).Take(Operations);
        TwoDisks disks = new(indexed, plain, random);
        for (int i = 0; i < operations.Count; i++)
        {
            if (await disks.RunAsync(operations[i]) is { } difference)
            {
                string replay = TestBudget.Replay(seed, nameof(RandomOperations_OnRandomChains_ReadAsWithoutIndex));
                throw new ModelMismatchException($"operation {i}, {operations[i]}: {difference}\n{chain.Depth} layers, index of {indexBytes} bytes\n{replay}");
            }
        }

        Assert.InRange(((FormatNode)indexed.Root).Index!.AllocatedBytes, 1, indexBytes);
        return operations.Count;
    }

    private sealed class TwoDisks(BlockDevice indexed, BlockDevice plain, Random random)
    {
        private readonly byte[] _fromIndexed = new byte[SizeMax];
        private readonly byte[] _fromPlain = new byte[SizeMax];

        /// <returns>What the two disagree about; null for nothing.</returns>
        public async Task<string?> RunAsync(GuestOperation operation)
        {
            operation = operation.ClippedTo(plain.Size);
            if (operation.IsEmpty)
            {
                return null;
            }

            if (operation.Kind == GuestOperationKind.Read)
            {
                return await CompareStatusAsync(operation.Offset, operation.Length) ?? await CompareAsync(operation.Offset, operation.Length);
            }

            string? refused = await TryAsync(indexed, operation);
            string? alsoRefused = await TryAsync(plain, operation);
            return refused != alsoRefused
                ? $"one says '{refused}', the other '{alsoRefused}'"
                : random.Next(operation.HasRange ? 8 : 1) == 0 ? await CompareAsync(0, (int)plain.Size) : null;
        }

        private static async Task<string?> TryAsync(BlockDevice device, GuestOperation operation)
        {
            try
            {
                await ApplyAsync(device, operation);
                return null;
            }
            catch (BlockIOException refusal)
            {
                // No such snapshot, or too many: both must say so.
                return refusal.Errno.ToString();
            }
        }

        private static async ValueTask ApplyAsync(BlockDevice device, GuestOperation operation)
        {
            switch (operation.Kind)
            {
                case GuestOperationKind.Write:
                    await device.WriteAsync(operation.Offset, operation.Data());
                    break;
                case GuestOperationKind.WriteCompressed:
                    bool whole = Alignment.IsAligned(operation.Offset, device.Root.ClusterSize)
                        && (operation.Offset + operation.Length == device.Size || Alignment.IsAligned(operation.Length, device.Root.ClusterSize));
                    await (whole ? device.WriteCompressedAsync(operation.Offset, operation.Data()) : device.WriteAsync(operation.Offset, operation.Data()));
                    break;
                case GuestOperationKind.Zero:
                case GuestOperationKind.ZeroMayUnmap:
                    ZeroFlags flags = operation.Kind == GuestOperationKind.Zero ? ZeroFlags.None : ZeroFlags.MayUnmap;
                    await device.ZeroAsync(operation.Offset, operation.Length, flags);
                    break;
                case GuestOperationKind.Discard:
                    await device.DiscardAsync(operation.Offset, operation.Length);
                    break;
                case GuestOperationKind.Flush:
                    await device.FlushAsync();
                    break;
                case GuestOperationKind.Resize:
                    await device.ResizeAsync(operation.Offset);
                    break;
                case GuestOperationKind.SnapshotCreate:
                    await device.CreateSnapshotAsync(operation.SnapshotName, SnapshotModel.Moment);
                    break;
                case GuestOperationKind.SnapshotApply:
                    await device.ApplySnapshotAsync(operation.SnapshotName);
                    break;
                default:
                    await device.DeleteSnapshotAsync(operation.SnapshotName);
                    break;
            }
        }

        private async Task<string?> CompareAsync(long offset, int length)
        {
            _fromIndexed.AsSpan().Fill(0xa5);
            await indexed.ReadAsync(offset, _fromIndexed.AsMemory(0, length));
            await plain.ReadAsync(offset, _fromPlain.AsMemory(0, length));
            int same = _fromIndexed.AsSpan(0, length).CommonPrefixLength(_fromPlain.AsSpan(0, length));
            return same == length
                ? null
                : $"read of {length} bytes at {offset}: byte {offset + same} is {_fromIndexed[same]:x2} instead of {_fromPlain[same]:x2}";
        }

        private async Task<string?> CompareStatusAsync(long offset, int length)
        {
            BlockStatus one = await indexed.StatusAsync(offset, length);
            BlockStatus other = await plain.StatusAsync(offset, length);
            return one == other ? null : $"status of {length} bytes at {offset}: {one} instead of {other}";
        }
    }

    private sealed class NotLoadedIsBacking(FormatDriver inner) : MutantDriver(inner)
    {
        public override bool TryMapCached(long offset, long length, out Mapping mapping)
        {
            if (!base.TryMapCached(offset, length, out mapping))
            {
                mapping = new Mapping(MappingKind.Backing, mapping.Length);
            }

            return true;
        }
    }

    private sealed class ZerosDoNotStop(FormatDriver inner) : MutantDriver(inner)
    {
        public override bool TryMapCached(long offset, long length, out Mapping mapping)
        {
            bool told = base.TryMapCached(offset, length, out mapping);
            mapping = mapping.Kind == MappingKind.Zero ? new Mapping(MappingKind.Backing, mapping.Length) : mapping;
            return told;
        }
    }

    private sealed class OneClusterTooFar(FormatDriver inner) : MutantDriver(inner)
    {
        public override bool TryMapCached(long offset, long length, out Mapping mapping)
        {
            bool told = base.TryMapCached(offset, length, out mapping);
            mapping = mapping with { Length = Math.Min(length, mapping.Length + ClusterSize) };
            return told;
        }
    }
}
