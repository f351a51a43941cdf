using BlockMount.TestSupport;
using BlockMount.TestSupport.Model;
using Xunit;
using Xunit.Abstractions;

namespace BlockMount.Tests.Model;

/// <summary>The file of an image that stays open for very long does not outgrow what lives in it.</summary>
public sealed class FootprintTests(ITestOutputHelper output)
{
    private const int Operations = 100_000;

    [Fact]
    public async Task HundredThousandOperations_OnOneOpenImage_FileStaysShort()
    {
        int operations = 0;
        foreach (int seed in Enumerable.Range(FootprintRun.FirstSeed, 4))
        {
            try
            {
                int count = TestBudget.Scaled(Operations / 4);
                long length = await FootprintRun.RunAsync(seed, count);
                operations += count;
                output.WriteLine($"seed {seed}: {length} bytes after {count} operations");
            }
            catch (ModelMismatchException error)
            {
                throw new ModelMismatchException($"{error.Message}\nreplay: {TestBudget.Replay(seed, nameof(FootprintTests))}", error);
            }
        }

        output.WriteLine(TestBudget.Count(operations, "operations on an image that stays open", Operations));
    }
}
