using BlockMount.TestSupport;
using BlockMount.TestSupport.Model;
using Xunit;
using Xunit.Abstractions;

namespace BlockMount.Tests.FailNth;

/// <summary>Each operation with each of its storage calls failing (RELIABILITY H4).</summary>
public sealed class FailNthTests(ITestOutputHelper output)
{
    /// <summary>The operations.</summary>
    public static TheoryData<string> Operations => [.. FailNthMatrix.s_operations.Select(named => named.Name)];

    [Theory]
    [MemberData(nameof(Operations))]
    public async Task EveryStorageCall_Failing_LeavesOldOrNewDataAndAValidImage(string name)
    {
        GuestOperation operation = FailNthMatrix.s_operations.Single(named => named.Name == name).Operation;
        int failures = await FailNthMatrix.FailEveryCallAsync(operation);
        output.WriteLine($"{name}: {TestBudget.Count(failures, "failing calls")}");
        Assert.True(failures >= 50, $"only {failures} calls failed");
    }
}
