using BlockMount.TestSupport;
using BlockMount.TestSupport.Images;
using BlockMount.TestSupport.Model;
using Xunit;

namespace BlockMount.Tests.Model;

/// <summary>
/// Random operations on images that only qemu-img can make: with internal snapshots, with compressed clusters, and with both. Disk and byte array stay
/// equal, every close leaves a clean image, and the snapshots keep what they held (RELIABILITY H1).
/// </summary>
[Trait("Suite", "Random")]
public sealed class ToolImageModelTests
{
    /// <summary>log2 of the cluster size, log2 of the refcount width, virtual size.</summary>
    public static TheoryData<int, int, long> Shapes => new()
    {
        // Two bits: with two snapshots the refcounts are as high as they can be.
        { 9, 1, 48 << 10 },
        { 9, 4, 96 << 10 },
        { 12, 4, 200 << 10 },
        { 12, 6, (64 << 10) + 512 },
        { 16, 4, (1 << 20) + 1536 },
    };

    [RequiresTheory(Needs.None, "qemu-img", "qemu-io")]
    [MemberData(nameof(Shapes))]
    public Task InternalSnapshots_KeepTheirContent(int clusterBits, int refcountOrder, long size) =>
        RunAsync(clusterBits, refcountOrder, size, compression: null, snapshots: 2);

    [RequiresTheory(Needs.None, "qemu-img", "qemu-io")]
    [MemberData(nameof(Shapes))]
    public Task ZlibClusters_MatchTheModel(int clusterBits, int refcountOrder, long size) =>
        RunAsync(clusterBits, Math.Max(refcountOrder, 4), size, "zlib", snapshots: 0);

    [RequiresTheory(Needs.Zstd, "qemu-img", "qemu-io")]
    [MemberData(nameof(Shapes))]
    public Task ZstdClusters_MatchTheModel(int clusterBits, int refcountOrder, long size) =>
        RunAsync(clusterBits, Math.Max(refcountOrder, 4), size, "zstd", snapshots: 0);

    [RequiresTheory(Needs.None, "qemu-img", "qemu-io")]
    [MemberData(nameof(Shapes))]
    public Task CompressedClustersInSnapshots_KeepTheirContent(int clusterBits, int refcountOrder, long size) =>
        RunAsync(clusterBits, Math.Max(refcountOrder, 4), size, "zlib", snapshots: 2);

    // The cluster that the new end cuts keeps its old bytes in the file; they must not come back. It cannot be zeroed in place here.
    [RequiresTheory(Needs.None, "qemu-img", "qemu-io")]
    [InlineData(null, 1)]
    [InlineData("zlib", 0)]
    public async Task ShrunkAndGrown_LastClusterSharedOrCompressed_NewSpaceReadsAsZeros(string? compression, int snapshots)
    {
        using ScratchFolder folder = new();
        ImageGeometry geometry = new() { ClusterBits = 12, Size = 64 << 10 };
        ToolImage image = await ToolImage.CreateAsync(folder, geometry, new Random(1), compression, snapshots);
        GuestOperation[] workload = [.. Enumerable.Range(1, 15).SelectMany(i => new[]
        {
            new GuestOperation(GuestOperationKind.Resize, geometry.Size - (i * 4096) + 512, 0, 0),
            new GuestOperation(GuestOperationKind.Resize, geometry.Size - (i * 4096) + 3072, 0, 0),
            new GuestOperation(GuestOperationKind.Resize, geometry.Size, 0, 0),
        })];
        await ModelRun.RunAsync(image.Chain, workload, geometry.Size);
        Assert.Null(await image.FindDamageAsync(folder, image.Chain.Top.ToArray()));
    }

    private static async Task RunAsync(int clusterBits, int refcountOrder, long size, string? compression, int snapshots)
    {
        using ScratchFolder folder = new();
        foreach (int seed in TestBudget.Seeds(4_000_000 + clusterBits, 3))
        {
            Random random = new(seed);
            ImageGeometry geometry = new()
            {
                ClusterBits = clusterBits,
                RefcountOrder = refcountOrder,
                Size = size,
                TinyCache = random.Next(2) == 0,
                DiscardToHost = random.Next(2) == 0,
            };
            ToolImage image = await ToolImage.CreateAsync(folder, geometry, random, compression, snapshots);
            int sizeMax = (int)size * 2;
            List<GuestOperation> workload = ModelWorkload.Make(random, geometry, sizeMax, operations: clusterBits > 12 ? 200 : 800);
            string context = $"{geometry}\n{TestBudget.Replay(seed, nameof(ToolImageModelTests))}";
            try
            {
                await ModelRun.RunAsync(image.Chain, workload, sizeMax);
            }
            catch (ModelMismatchException error)
            {
                throw new ModelMismatchException($"{error.Message}\n{context}", error);
            }

            string? damage = await image.FindDamageAsync(folder, image.Chain.Top.ToArray());
            Assert.True(damage is null, $"{damage}\n{context}");
        }
    }
}
