using BlockMount.Bench.Loads;
using Xunit;

namespace BlockMount.Tests.Bench;

/// <summary>Reading what fio 3.33 really printed.</summary>
public sealed class FioResultTests
{
    [Fact]
    public void Parse_RandomReadOfTwoJobs_TakesTheReadDirection()
    {
        FioResult result = FioResult.Parse(Fixture("fio-randread.json"), reads: true);
        Assert.Equal(new FioResult(322408.548708, 1320585415, 6.048, 8.512, 6258.688, 324343), result);
    }

    [Fact]
    public void Parse_RandomWriteAfterRampTime_TakesTheWriteDirection()
    {
        FioResult result = FioResult.Parse(Fixture("fio-randwrite.json"), reads: false);
        Assert.Equal(new FioResult(260300, 1066202012, 0.410, 0.524, 1.080, 80693), result);
    }

    [Fact]
    public void Parse_RemarksBeforeTheDocument_AreSkipped()
    {
        string output = "fio: this platform does not support something\n" + Fixture("fio-randread.json");
        Assert.Equal(324343, FioResult.Parse(output, reads: true).Requests);
    }

    [Fact]
    public void Parse_DirectionWithoutRequests_Throws()
    {
        InvalidOperationException error = Assert.Throws<InvalidOperationException>(() => FioResult.Parse(Fixture("fio-randread.json"), reads: false));
        Assert.Contains("no request", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Parse_JobThatFailed_ThrowsWithItsErrno()
    {
        string failed = Fixture("fio-randread.json").Replace("\"error\" : 0", "\"error\" : 5", StringComparison.Ordinal);
        InvalidOperationException error = Assert.Throws<InvalidOperationException>(() => FioResult.Parse(failed, reads: true));
        Assert.Contains("errno 5", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Parse_NoDocument_ThrowsWithWhatWasPrinted()
    {
        InvalidOperationException error = Assert.Throws<InvalidOperationException>(() => FioResult.Parse("fio: engine nbd not loadable\n", reads: true));
        Assert.Contains("engine nbd not loadable", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Value_EachMetric_IsInItsUnit()
    {
        Sample sample = new(new FioResult(Iops: 50_000, BytesPerSecond: 204_800_000, P50: 10, P99: 20, P999: 30, Requests: 100_000), CpuPerRequest: 7);
        Assert.Equal(50_000, sample.Value(Metric.Iops));
        Assert.Equal(204.8, sample.Value(Metric.Bandwidth));
        Assert.Equal([10.0, 20.0, 30.0], new[] { Metric.P50, Metric.P99, Metric.P999 }.Select(metric => sample.Value(metric)!.Value));
        Assert.Equal(7, sample.Value(Metric.CpuPerRequest));
        Assert.Equal(20, sample.Value(Metric.TimePerRequest));
    }

    private static string Fixture(string name)
    {
        using Stream stream = typeof(FioResultTests).Assembly.GetManifestResourceStream(name)!;
        using StreamReader reader = new(stream);
        return reader.ReadToEnd();
    }
}
