using BlockMount.Formats.Qcow2.Check;
using BlockMount.TestSupport.Images;
using BlockMount.TestSupport.Model;
using BlockMount.TestSupport.Mutants;
using Xunit;
using Xunit.Abstractions;

namespace BlockMount.Tests.Model;

/// <summary>
/// Proves the sequential model test: with a mistake in the image, the runs of <see cref="ModelTests"/> report it, and the same run without the mistake
/// is good.
/// </summary>
public sealed class ModelMutantTests(ITestOutputHelper output)
{
    // Only the check says so.
    private const string TooLow = nameof(CheckFindingKind.RefcountTooLow);

    [Fact]
    public async Task NoMistake_NothingIsReported()
    {
        for (int seed = ModelWorkload.FirstSeed; seed < ModelWorkload.FirstSeed + 4; seed++)
        {
            (ImageGeometry geometry, List<GuestOperation> workload) = ModelWorkload.Make(seed);
            Assert.Null(await ModelWorkload.FailureAsync(geometry, seed, workload, new Mutant()));
        }
    }

    [Fact]
    public Task OneWriteDropped_IsReported() => ProveAsync(seed => new DroppedWrite(number: 1 + (seed % 400)));

    [Fact]
    public Task TailOfANewClusterNotCopied_IsReported() => ProveAsync(_ => new TailNotCopied());

    [Fact]
    public Task RefcountsNotWritten_TheCheckAfterCloseReportsIt() => ProveAsync(seed => new DroppedRefcounts(every: 2 + (seed % 5)), TooLow);

    [Fact]
    public Task ZerosShowTheBackingFile_IsReported() => ProveAsync(_ => new ZerosShowBacking());

    [Fact]
    public async Task FailingWorkload_Shrunk_HasAtMostTwentyOperationsAndStillFails()
    {
        (int seed, ImageGeometry geometry, List<GuestOperation> workload) = await FindAsync(_ => new TailNotCopied(), expected: "");
        IReadOnlyList<GuestOperation> shrunk = await WorkloadShrinker.ShrinkAsync(
            workload, candidate => ModelWorkload.FailsAsync(geometry, seed, candidate, new TailNotCopied()), TimeSpan.FromSeconds(20));
        output.WriteLine($"{shrunk.Count} of {workload.Count} operations\n{string.Join("\n", shrunk)}");
        Assert.InRange(shrunk.Count, 1, 20);
        Assert.True(await ModelWorkload.FailsAsync(geometry, seed, shrunk, new TailNotCopied()));
        Assert.False(await ModelWorkload.FailsAsync(geometry, seed, shrunk));
    }

    private async Task ProveAsync(Func<int, Mutant> create, string expected = "")
    {
        (int seed, ImageGeometry geometry, List<GuestOperation> workload) = await FindAsync(create, expected);
        Assert.Null(await ModelWorkload.FailureAsync(geometry, seed, workload, mutant: null));
    }

    // The seeds are those of a normal run, so that what is found here would be found there.
    private async Task<(int Seed, ImageGeometry Geometry, List<GuestOperation> Workload)> FindAsync(Func<int, Mutant> create, string expected)
    {
        for (int run = 0; run < ModelWorkload.Runs / 2; run++)
        {
            int seed = ModelWorkload.FirstSeed + run;
            (ImageGeometry geometry, List<GuestOperation> workload) = ModelWorkload.Make(seed);
            string? failure = await ModelWorkload.FailureAsync(geometry, seed, workload, create(seed));
            if (failure is not null && failure.Contains(expected, StringComparison.Ordinal))
            {
                output.WriteLine($"found by run {run + 1}: {failure.Split('\n')[0]}");
                return (seed, geometry, workload);
            }
        }

        throw new ModelMismatchException("the harness does not find the mistake");
    }
}
