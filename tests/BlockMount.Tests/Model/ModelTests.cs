using BlockMount.TestSupport;
using BlockMount.TestSupport.Images;
using BlockMount.TestSupport.Model;
using Xunit;
using Xunit.Abstractions;

namespace BlockMount.Tests.Model;

/// <summary>Random operations on a chain and on a byte array: the two stay equal, over the matrix of small geometries (RELIABILITY H1).</summary>
public sealed class ModelTests(ITestOutputHelper output)
{
    private const int SizeMax = 192 << 10;
    private const int OperationsPerRun = 2000;
    private const int Runs = 110;

    // Read, Write, Zero, ZeroMayUnmap, Discard, Flush, Resize, Reopen.
    private static readonly int[] s_weights = [250, 350, 80, 80, 100, 60, 12, 8];

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    public async Task RandomOperations_OverTheGeometryMatrix_MatchTheModel(int half)
    {
        long operations = 0;
        foreach (int seed in TestBudget.Seeds(1000 + (half * 1_000_000), Runs / 2))
        {
            (ImageGeometry geometry, List<GuestOperation> workload) = Make(seed);
            await RunAsync(seed, geometry, workload);
            operations += workload.Count;
        }

        output.WriteLine($"{operations} operations");
    }

    [RequiresFact(Needs.None, "qemu-img")]
    public async Task RandomOperations_Sample_QemuReadsTheSame()
    {
        using ScratchFolder folder = new();
        foreach (int seed in TestBudget.Seeds(3_000_000, 40))
        {
            (ImageGeometry geometry, List<GuestOperation> workload) = Make(seed);
            ModelRun run = await RunAsync(seed, geometry, workload[..300]);
            await run.Chain.SaveAsync(folder, "top", run.Chain.Top.Content.ToArray());
            await QemuImg.SaveAsync(folder["model"], run.Model);
            QemuImg.Verdict verdict = await QemuImg.CheckAsync(folder["top"]);
            Assert.True(verdict.ExitCode == 0, $"{TestBudget.Replay(seed, nameof(RandomOperations_Sample_QemuReadsTheSame))}\n{geometry}\n{verdict.Text}");
            await QemuImg.RunAsync("compare", "-f", "qcow2", "-F", "raw", folder["top"], folder["model"]);
        }
    }

    private static (ImageGeometry Geometry, List<GuestOperation> Workload) Make(int seed)
    {
        Random random = new(seed);
        ImageGeometry geometry = ImageGeometry.Choose(random, SizeMax / 2);
        WorkloadGenerator generator = new(random, geometry.ClusterSize, geometry.Size, SizeMax, granularity: 1, s_weights);
        List<GuestOperation> workload = [];
        for (int i = 0; i < OperationsPerRun; i++)
        {
            workload.Add(generator.Next());
        }

        return (geometry, workload);
    }

    private static async Task<ModelRun> RunAsync(int seed, ImageGeometry geometry, IReadOnlyList<GuestOperation> workload)
    {
        try
        {
            return await ModelRun.RunAsync(geometry, seed, workload, SizeMax);
        }
        catch (ModelMismatchException error)
        {
            IReadOnlyList<GuestOperation> shorter =
                await WorkloadShrinker.ShrinkAsync(workload, candidate => FailsAsync(geometry, seed, candidate), TimeSpan.FromSeconds(20));
            Exception last = await Assert.ThrowsAnyAsync<Exception>(async () => await ModelRun.RunAsync(geometry, seed, shorter, SizeMax));
            throw new ModelMismatchException(
                $"{error.Message}\nreplay: {TestBudget.Replay(seed, nameof(ModelTests))}\n{geometry}\nshortest: {last.Message}\n{string.Join("\n", shorter)}",
                last);
        }
    }

    private static async ValueTask<bool> FailsAsync(ImageGeometry geometry, int seed, IReadOnlyList<GuestOperation> workload)
    {
        try
        {
            await ModelRun.RunAsync(geometry, seed, workload, SizeMax);
            return false;
        }
        catch (ModelMismatchException)
        {
            return true;
        }
    }
}
