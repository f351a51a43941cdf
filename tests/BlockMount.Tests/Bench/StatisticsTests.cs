using BlockMount.Bench.Loads;
using BlockMount.Bench.Results;
using Xunit;

namespace BlockMount.Tests.Bench;

public sealed class StatisticsTests
{
    [Fact]
    public void Median_OddEvenAndNone()
    {
        Assert.Equal(3, Statistics.Median([9.0, 1.0, 3.0]));
        Assert.Equal(2.5, Statistics.Median([4.0, 1.0, 2.0, 3.0]));
        Assert.Null(Statistics.Median([]));
    }

    [Fact]
    public void Compare_RatioIsOfTheMedians_SpreadIsOfThePairs()
    {
        // Medians 30 and 10; pairs 10/10, 30/20, 40/8.
        Ratio ratio = Statistics.Compare([10, 30, 40], [10, 20, 8])!.Value;
        Assert.Equal(new Ratio(3, 1, 5), ratio);
    }

    [Fact]
    public void Compare_ASideWithoutFigures_IsNull()
    {
        Assert.Null(Statistics.Compare([], [1]));
        Assert.Null(Statistics.Compare([1], []));
        Assert.Null(Statistics.Compare([1, 1, 1], [0, 1, 1]));
    }

    [Fact]
    public void Compare_OwnBaseline_ComparesOursUnderBothLoads()
    {
        Measurements measurements = new();
        Load deep = WorkloadTable.Chain(64);
        measurements.Add(WorkloadTable.RandomRead, Contender.BlockMount, BenchSamples.At(iops: 40_000));
        measurements.Add(deep, Contender.BlockMount, BenchSamples.At(iops: 20_000));
        measurements.Add(deep, Contender.Qemu, BenchSamples.At(iops: 1));
        Workload row = WorkloadTable.Rows.Single(row => row.Load == deep);
        Assert.Equal(2, measurements.Compare(row)!.Value.Value);
    }

    [Theory]
    [InlineData(2.5, false, ">= 2.5x holds")]
    [InlineData(2.496, false, ">= 2.5x holds")]
    [InlineData(2.494, false, ">= 2.5x **MISSES**")]
    [InlineData(2.5, true, "<= 2.5x holds")]
    [InlineData(2.504, true, "<= 2.5x holds")]
    [InlineData(2.506, true, "<= 2.5x **MISSES**")]
    public void Verdict_GoesByTheTwoDecimalsThatAreShown(double figure, bool atMost, string verdict) =>
        Assert.Equal(verdict, new Bound(2.5, atMost).Verdict(figure, "x"));

    [Fact]
    public void Verdict_WithoutAFigure_ClaimsNothing() => Assert.Equal("<= 200 ms not measured", new Bound(200, AtMost: true).Verdict(null, " ms"));
}
