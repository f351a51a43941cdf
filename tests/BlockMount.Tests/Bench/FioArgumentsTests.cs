using BlockMount.Bench.Loads;
using Xunit;

namespace BlockMount.Tests.Bench;

public sealed class FioArgumentsTests
{
    private static readonly RunLength s_length = new(SettleSeconds: 0.25, MeasuredSeconds: 2.5);

    [Fact]
    public void Measured_ForATime_SettlesInTheSameProcessAndNeverWritesWhenReading()
    {
        string[] arguments = FioArguments.Measured(new FioJob("randread", "4k", 32, Jobs: 2), s_length, FioArguments.OnNbd("nbd+unix:///?socket=/x"));
        Assert.Contains("--runtime=2500ms", arguments);
        Assert.Contains("--ramp_time=250ms", arguments);
        Assert.Contains("--iodepth=32", arguments);
        Assert.Contains("--numjobs=2", arguments);
        Assert.Contains("--readonly", arguments);
        Assert.Contains("--ioengine=nbd", arguments);
        Assert.Contains("--uri=nbd+unix:///?socket=/x", arguments);
    }

    [Fact]
    public void Measured_OfAFixedAmount_MeasuresAllOfIt()
    {
        string[] arguments = FioArguments.Measured(new FioJob("write", "64k", 4, WholeBytes: 512), s_length, FioArguments.OnFile("/x"));
        Assert.Contains("--io_size=512", arguments);
        Assert.DoesNotContain("--readonly", arguments);
        Assert.DoesNotContain(arguments, argument => argument.StartsWith("--ramp_time", StringComparison.Ordinal));
        Assert.DoesNotContain(arguments, argument => argument.StartsWith("--runtime", StringComparison.Ordinal));
        Assert.Contains("--filename=/x", arguments);
    }
}
