using BlockMount.TestSupport;
using BlockMount.TestSupport.Images;
using BlockMount.TestSupport.Model;
using Xunit;

namespace BlockMount.Tests.Model;

/// <summary>
/// Images with an external data file that QEMU made and wrote to: they read equal, and after random operations qemu-img finds nothing wrong and reads
/// what the model holds; a raw data file is the same disk by itself, with its bit still set.
/// </summary>
public sealed class DataFileImageTests
{
    /// <summary>Cluster size, subclusters, raw, over a backing file.</summary>
    public static TheoryData<int, bool, bool, bool> Shapes => new()
    {
        { 512, false, false, false },
        { 4096, false, false, true },
        { 4096, false, true, false },
        { 65536, false, true, false },
        { 16384, true, false, true },
        { 16384, true, true, false },
        { 65536, true, false, false },
    };

    [RequiresTheory(Needs.None, "qemu-img", "qemu-io")]
    [MemberData(nameof(Shapes))]
    public async Task RandomOperations_MatchTheModelAndQemu(int clusterSize, bool extendedL2, bool raw, bool backing)
    {
        using ScratchFolder folder = new();
        int size = Math.Max(96 << 10, 10 * clusterSize) + 1536;
        foreach (int seed in TestBudget.Seeds(4_400_000 + clusterSize, 3))
        {
            Random random = new(seed);
            ImageGeometry geometry = new()
            {
                ClusterBits = int.Log2(clusterSize),
                ExtendedL2 = extendedL2,
                DataFile = raw ? DataFileKind.Raw : DataFileKind.Plain,
                Size = size,
                Backing = backing ? BackingKind.Raw : BackingKind.None,
                Depth = backing ? 2 : 1,
                BackingSize = backing ? size - 10240 : 0,
                TinyCache = random.Next(2) == 0,
                DiscardToHost = random.Next(2) == 0,
            };
            string context = $"{geometry}\n{TestBudget.Replay(seed, nameof(DataFileImageTests))}";
            TestChain chain = await MakeAsync(folder, geometry, seed, random);
            ModelRun run;
            try
            {
                run = await ModelRun.RunAsync(chain, ModelWorkload.Make(random, geometry, size * 2, operations: 500), size * 2);
            }
            catch (ModelMismatchException error)
            {
                throw new ModelMismatchException($"{error.Message}\n{context}", error);
            }

            await JudgeAsync(folder, chain, run, context);
        }
    }

    private static async Task<TestChain> MakeAsync(ScratchFolder folder, ImageGeometry geometry, int seed, Random random)
    {
        TestChain chain = await TestChain.CreateAsync(geometry, seed);
        await chain.SaveAsync(folder, "top", chain.Top.ToArray());
        File.Delete(folder["data"]);
        string options = $"data_file={folder["data"]},data_file_raw={OnOff(geometry.DataFile == DataFileKind.Raw)}"
            + $",extended_l2={OnOff(geometry.ExtendedL2)},cluster_size={geometry.ClusterSize}";
        string[] backing = geometry.Backing == BackingKind.None ? [] : ["-b", "base0", "-F", "raw"];
        await QemuImg.RunAsync(["create", "-q", "-f", "qcow2", "-o", options, .. backing, folder["top"], QemuImg.Bytes(geometry.Size)]);
        await QemuImg.IoAsync(folder["top"], Pieces(geometry, random));
        byte[] content = await QemuImg.ReadGuestAsync(folder["top"], folder["guest"]);
        return chain.WithTop(await QemuImg.LoadAsync(folder["top"]), content, await QemuImg.LoadAsync(folder["data"]));
    }

    private static async Task JudgeAsync(ScratchFolder folder, TestChain chain, ModelRun run, string context)
    {
        await chain.SaveAsync(folder, "top", chain.Top.ToArray());
        await QemuImg.SaveAsync(folder["model"], run.Model);
        QemuImg.Verdict verdict = await QemuImg.CheckAsync(folder["top"]);
        Assert.True(verdict.ExitCode == 0, $"{verdict.Text}\n{context}");
        await QemuImg.MustEqualRawAsync(folder["top"], folder["model"]);
        if (chain.Geometry.DataFile == DataFileKind.Raw)
        {
            await QemuImg.RunAsync("compare", "-f", "raw", "-F", "raw", folder["data"], folder["model"]);
            Assert.Contains("data file raw: true", await QemuImg.RunAsync("info", folder["top"]), StringComparison.Ordinal);
        }
    }

    private static string OnOff(bool value) => value ? "on" : "off";

    private static string[] Pieces(ImageGeometry geometry, Random random)
    {
        string[] commands = new string[16];
        for (int i = 0; i < commands.Length; i++)
        {
            long offset = random.NextInt64(geometry.Size / 512) * 512;
            long length = Math.Min(geometry.Size - offset, random.Next(2) == 0 ? geometry.ClusterSize : 512 * random.Next(1, 20));
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
