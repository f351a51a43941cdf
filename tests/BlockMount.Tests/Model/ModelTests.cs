using BlockMount.TestSupport;
using BlockMount.TestSupport.Images;
using BlockMount.TestSupport.Model;
using Xunit;
using Xunit.Abstractions;

namespace BlockMount.Tests.Model;

/// <summary>Random operations on a chain and on a byte array: the two stay equal, over the matrix of small geometries (RELIABILITY H1).</summary>
[Trait("Suite", "Random")]
public sealed class ModelTests(ITestOutputHelper output)
{
    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    public async Task RandomOperations_OverTheGeometryMatrix_MatchTheModel(int half)
    {
        long operations = 0;
        foreach (int seed in TestBudget.Seeds(ModelWorkload.FirstSeed + (half * 1_000_000), ModelWorkload.Runs / 2))
        {
            (ImageGeometry geometry, List<GuestOperation> workload) = ModelWorkload.Make(seed);
            await RunAsync(seed, geometry, workload);
            operations += workload.Count;
        }

        output.WriteLine(TestBudget.Count(operations, "model operations", 500_000));
    }

    [RequiresFact(Needs.None, "qemu-img")]
    public async Task RandomOperations_Sample_QemuReadsTheSame()
    {
        using ScratchFolder folder = new();
        foreach (int seed in TestBudget.Seeds(3_000_000, 40))
        {
            (ImageGeometry geometry, List<GuestOperation> workload) = ModelWorkload.Make(seed);
            ModelRun run = await RunAsync(seed, geometry, workload[..300]);
            await run.Chain.SaveAsync(folder, "top", run.Chain.Top.Content.ToArray());
            await QemuImg.SaveAsync(folder["model"], run.Model);
            // The tool looks for a data file in the working directory.
            string? data = geometry.DataFile == DataFileKind.None ? null : folder[EmptyImage.DataFileName];
            QemuImg.Verdict verdict = await QemuImg.CheckAsync(folder["top"], data);
            Assert.True(verdict.ExitCode == 0, $"{TestBudget.Replay(seed, nameof(RandomOperations_Sample_QemuReadsTheSame))}\n{geometry}\n{verdict.Text}");
            await QemuImg.MustEqualRawAsync(folder["top"], folder["model"], data);
        }
    }

    private static async Task<ModelRun> RunAsync(int seed, ImageGeometry geometry, IReadOnlyList<GuestOperation> workload)
    {
        try
        {
            return await ModelRun.RunAsync(geometry, seed, workload, ModelWorkload.SizeMax);
        }
        catch (ModelMismatchException error)
        {
            IReadOnlyList<GuestOperation> shorter =
                await WorkloadShrinker.ShrinkAsync(workload, candidate => ModelWorkload.FailsAsync(geometry, seed, candidate), TimeSpan.FromSeconds(20));
            Exception last = await Assert.ThrowsAnyAsync<Exception>(async () => await ModelRun.RunAsync(geometry, seed, shorter, ModelWorkload.SizeMax));
            throw new ModelMismatchException(
                $"{error.Message}\nreplay: {TestBudget.Replay(seed, nameof(ModelTests))}\n{geometry}\nshortest: {last.Message}\n{string.Join("\n", shorter)}",
                last);
        }
    }
}
