using BlockMount.Bench;
using BlockMount.Bench.Loads;
using Xunit;

namespace BlockMount.Tests.Bench;

public sealed class BenchSettingsTests
{
    [Fact]
    public void Read_Nothing_MeasuresAllAndWritesTheDocument()
    {
        BenchSettings settings = BenchSettings.Read([], Variables(("BENCH_DOCUMENT", "/docs/benchmarks.md")));
        Assert.Equal("/docs/benchmarks.md", settings.Document);
        Assert.True(settings.Rounds >= 5);
        Assert.True(settings.Wants("anything"));
    }

    [Theory]
    [InlineData("--quick")]
    [InlineData("QD32")]
    public void Read_QuickOrFiltered_NeverReplacesTheDocument(string argument) =>
        Assert.Null(BenchSettings.Read([argument], Variables(("BENCH_DOCUMENT", "/docs/benchmarks.md"))).Document);

    [Fact]
    public void Read_Variables_AreTaken()
    {
        BenchSettings settings = BenchSettings.Read(
            [],
            Variables(("BENCH_PAIRS", "3"), ("BENCH_SECONDS", "0.3"), ("BENCH_SETTLE", "0.1"), ("BENCH_MOUNT_OPTIONS", "transport=uring"), ("QEMU_STORAGE_DAEMON2", "/q")));
        Assert.Equal((3, 0.3, 0.1, "transport=uring", "/q"), (settings.Rounds, settings.Seconds, settings.SettleSeconds, settings.MountOptions, settings.NewerQemu));
        Assert.Equal(new RunLength(0.1, 0.3), settings.Length(WorkloadTable.RandomRead, Contender.Qemu));
    }

    [Theory]
    [InlineData("BENCH_PAIRS", "2.5")]
    [InlineData("BENCH_PAIRS", "0")]
    [InlineData("BENCH_SECONDS", "long")]
    [InlineData("BENCH_SECONDS", "-1")]
    public void Read_NumberThatMakesNoSense_IsNamed(string name, string value)
    {
        FormatException error = Assert.Throws<FormatException>(() => BenchSettings.Read([], Variables((name, value))));
        Assert.Contains(name, error.Message, StringComparison.Ordinal);
        Assert.Contains(value, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Read_UnknownOption_IsNamed()
    {
        FormatException error = Assert.Throws<FormatException>(() => BenchSettings.Read(["--fast"], _ => null));
        Assert.Contains("--fast", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Length_AtQueueDepth1_SettlesLonger()
    {
        BenchSettings settings = BenchSettings.Read([], _ => null);
        double one = settings.Length(WorkloadTable.RandomRead, Contender.Qemu).SettleSeconds;
        Assert.True(one > settings.Length(WorkloadTable.RandomReadAt(32), Contender.Qemu).SettleSeconds);
    }

    private static Func<string, string?> Variables(params (string Name, string Value)[] variables) =>
        name => variables.Where(variable => variable.Name == name).Select(variable => variable.Value).FirstOrDefault();
}
