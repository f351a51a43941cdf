using BlockMount.TestSupport;
using BlockMount.TestSupport.Images;
using BlockMount.TestSupport.Model;
using Xunit;

namespace BlockMount.Tests.Model;

/// <summary>
/// Images with extended L2 entries that QEMU made and wrote to, in pieces of subclusters, with zeros, discards and a backing file: they read equal, and
/// after random operations qemu-img finds nothing wrong and reads what the model holds.
/// </summary>
public sealed class SubclusterImageTests
{
    /// <summary>Cluster size, virtual size, operations.</summary>
    public static TheoryData<int, int, int> Shapes => new()
    {
        { 16 << 10, (160 << 10) + 512, 1000 },
        { 32 << 10, 300 << 10, 600 },
        { 64 << 10, (1 << 20) + 1536, 300 },
        { 2 << 20, 5 << 20, 60 },
    };

    [RequiresTheory(Needs.None, "qemu-img", "qemu-io")]
    [MemberData(nameof(Shapes))]
    public Task WithoutBacking_MatchesTheModelAndQemu(int clusterSize, int size, int operations) =>
        RunAsync(clusterSize, size, operations, BackingKind.None, backingSize: 0);

    [RequiresTheory(Needs.None, "qemu-img", "qemu-io")]
    [MemberData(nameof(Shapes))]
    public Task OverRaw_MatchesTheModelAndQemu(int clusterSize, int size, int operations) =>
        RunAsync(clusterSize, size, operations, BackingKind.Raw, backingSize: size / 3 * 2 / 512 * 512);

    [RequiresTheory(Needs.None, "qemu-img", "qemu-io")]
    [MemberData(nameof(Shapes))]
    public Task OverLongerQcow2_MatchesTheModelAndQemu(int clusterSize, int size, int operations) =>
        RunAsync(clusterSize, size, operations, BackingKind.Qcow2, backingSize: size + 4096);

    [RequiresTheory(Needs.None, "qemu-img", "qemu-io")]
    [InlineData("zlib")]
    [InlineData("zstd")]
    public async Task CompressedClusters_PartlyZeroedAndOverwritten_MatchTheModel(string compression)
    {
        using ScratchFolder folder = new();
        foreach (int seed in TestBudget.Seeds(4_300_000, 3))
        {
            Random random = new(seed);
            ImageGeometry geometry = new() { ClusterBits = 14, ExtendedL2 = true, Size = 160 << 10, TinyCache = random.Next(2) == 0 };
            ToolImage image = await ToolImage.CreateAsync(folder, geometry, random, compression, snapshots: 1);
            await ModelRun.RunAsync(image.Chain, ModelWorkload.Make(random, geometry, 320 << 10, operations: 400), 320 << 10);
            string? damage = await image.FindDamageAsync(folder, image.Chain.Top.ToArray());
            Assert.True(damage is null, $"{damage}\n{geometry}\n{TestBudget.Replay(seed, nameof(SubclusterImageTests))}");
        }
    }

    private static async Task RunAsync(int clusterSize, int size, int operations, BackingKind backing, int backingSize)
    {
        using ScratchFolder folder = new();
        foreach (int seed in TestBudget.Seeds(4_200_000 + clusterSize, 3))
        {
            Random random = new(seed);
            ImageGeometry geometry = new()
            {
                ClusterBits = int.Log2(clusterSize),
                ExtendedL2 = true,
                Size = size,
                Backing = backing,
                Depth = backing == BackingKind.None ? 1 : 2,
                BackingSize = backingSize,
                TinyCache = random.Next(2) == 0,
                DiscardToHost = random.Next(2) == 0,
            };
            string context = $"{geometry}\n{TestBudget.Replay(seed, nameof(SubclusterImageTests))}";
            TestChain chain = await MakeAsync(folder, geometry, seed, random);
            ModelRun run = await RunModelAsync(chain, ModelWorkload.Make(random, geometry, size * 2, operations), size * 2, context);
            await chain.SaveAsync(folder, "top", chain.Top.ToArray());
            await QemuImg.SaveAsync(folder["model"], run.Model);
            QemuImg.Verdict verdict = await QemuImg.CheckAsync(folder["top"]);
            Assert.True(verdict.ExitCode == 0, $"{verdict.Text}\n{context}");
            await QemuImg.RunAsync("compare", "-f", "qcow2", "-F", "raw", folder["top"], folder["model"]);
        }
    }

    // The backing files are ours, the top is QEMU's.
    private static async Task<TestChain> MakeAsync(ScratchFolder folder, ImageGeometry geometry, int seed, Random random)
    {
        TestChain chain = await TestChain.CreateAsync(geometry, seed);
        await chain.SaveAsync(folder, "top", chain.Top.ToArray());
        string[] backing = geometry.Backing == BackingKind.None ? [] : ["-b", "base0", "-F", geometry.Backing == BackingKind.Raw ? "raw" : "qcow2"];
        string options = $"extended_l2=on,cluster_size={geometry.ClusterSize}";
        await QemuImg.RunAsync(["create", "-q", "-f", "qcow2", "-o", options, .. backing, folder["top"], QemuImg.Bytes(geometry.Size)]);
        await QemuImg.IoAsync(folder["top"], Pieces(geometry, random));
        byte[] content = await QemuImg.ReadGuestAsync(folder["top"], folder["guest"]);
        return chain.WithTop(await QemuImg.LoadAsync(folder["top"]), content);
    }

    private static async Task<ModelRun> RunModelAsync(TestChain chain, List<GuestOperation> workload, int sizeMax, string context)
    {
        try
        {
            return await ModelRun.RunAsync(chain, workload, sizeMax);
        }
        catch (ModelMismatchException error)
        {
            throw new ModelMismatchException($"{error.Message}\n{context}", error);
        }
    }

    private static string[] Pieces(ImageGeometry geometry, Random random)
    {
        int subcluster = geometry.ClusterSize / 32;
        string[] commands = new string[24];
        for (int i = 0; i < commands.Length; i++)
        {
            long offset = random.NextInt64(geometry.Size / 512) * 512;
            offset = random.Next(3) == 0 ? offset : offset / subcluster * subcluster;
            long length = Math.Min(geometry.Size - offset, random.Next(4) == 0 ? geometry.ClusterSize : (long)subcluster * random.Next(1, 9));
            string verb = random.Next(6) switch
            {
                0 => "write -z",
                1 => "write -z -u",
                2 => "discard",
                _ => $"write -P {random.Next(1, 256)}",
            };
            commands[i] = $"{verb} {QemuImg.Bytes(offset)} {QemuImg.Bytes(length)}";
        }

        return commands;
    }
}
