using BlockMount.TestSupport;
using BlockMount.TestSupport.Model;
using BlockMount.TestSupport.Mutants;
using Xunit;
using Xunit.Abstractions;

namespace BlockMount.Tests.FailNth;

/// <summary>Proves the fail-Nth harness: with a mistake in the handling of errors, the runs of <see cref="FailNthMatrix"/> report it.</summary>
public sealed class FailNthMutantTests(ITestOutputHelper output)
{
    private static readonly GuestOperation s_read = new(GuestOperationKind.Read, 100, 30000, 99);
    private static readonly GuestOperation s_write = new(GuestOperationKind.Write, 40960, 8192, 99);

    [Fact]
    public async Task NoMistake_NothingIsReported()
    {
        Assert.Null(await FailureAsync(s_read, () => new Mutant()));
        Assert.Null(await FailureAsync(s_write, () => new Mutant()));
    }

    [Fact]
    public Task WriteErrorsTakenForSuccess_IsReported() => ProveAsync(s_write, () => new SwallowedErrors(StorageCalls.Write));

    [Fact]
    public Task ReadErrorsTakenForSuccess_IsReported() => ProveAsync(s_read, () => new SwallowedErrors(StorageCalls.Read));

    [Fact]
    public Task ClustersWithoutTheirDataLinked_IsReported() => ProveAsync(s_write, () => new FailedWritesCommitted());

    private async Task ProveAsync(GuestOperation operation, Func<Mutant> createMutant)
    {
        string? failure = await FailureAsync(operation, createMutant);
        Assert.NotNull(failure);
        output.WriteLine(failure);
    }

    private static async Task<string?> FailureAsync(GuestOperation operation, Func<Mutant> createMutant)
    {
        try
        {
            await FailNthMatrix.FailEveryCallAsync(operation, createMutant);
            return null;
        }
        catch (ModelMismatchException mismatch)
        {
            return mismatch.Message;
        }
    }
}
