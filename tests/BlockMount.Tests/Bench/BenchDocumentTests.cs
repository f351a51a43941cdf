using System.Xml.Linq;
using BlockMount.Bench;
using BlockMount.Bench.Documents;
using BlockMount.Bench.Loads;
using BlockMount.Bench.Results;
using BlockMount.TestSupport;
using Xunit;

namespace BlockMount.Tests.Bench;

public sealed class BenchDocumentTests
{
    private static readonly Contender[] s_usual = [Contender.BlockMount, Contender.Qemu, Contender.Nbdkit, Contender.NativeFile];

    [Fact]
    public void Text_Rows_HaveMediansRatioSpreadAndBothVerdicts()
    {
        string text = Document().Text(BenchSamples.Run(s_usual), ringCount: 0, remarks: null);
        // 60,000 and 80,000 against 10,000 twice.
        Assert.Contains(
            "| FUSE 4k randread QD1 | 70,000 | 10,000 | 20,000 | IOPS | 7.00x | QEMU | 6.00x - 8.00x | >= 2.5x holds | >= 6x holds |\n", text, StringComparison.Ordinal);
        Assert.Contains("| NBD 4k randread QD1, against nbdkit's raw file | 70,000 | 10,000 | 20,000 | IOPS | 3.50x | nbdkit (raw) |", text, StringComparison.Ordinal);
        Assert.Contains("| FUSE 4k randread QD1, CPU per request | 5.0 | 5.0 | - | µs CPU | 1.00x | QEMU | 1.00x - 1.00x | <= 0.7x **MISSES** | <= 0.4x **MISSES** |\n", text, StringComparison.Ordinal);
        Assert.Contains("| Start | 101 | 7.0 | ms | <= 200 ms holds | <= 100 ms **MISSES** |\n", text, StringComparison.Ordinal);
    }

    [Fact]
    public void Text_EveryTable_HasAsManyCellsAsHeads()
    {
        string text = Document().Text(BenchSamples.Run([.. s_usual, Contender.NewerQemu]), ringCount: 2, remarks: null);
        int tables = 0;
        foreach (string block in text.Split("\n\n").Where(block => block.TrimStart('\n').StartsWith('|')))
        {
            tables++;
            int[] cells = [.. block.Trim('\n').Split('\n').Select(line => line.Split('|').Length)];
            Assert.Single(cells.Distinct());
        }

        Assert.Equal(6, tables);
    }

    [Fact]
    public void Text_CountsWhatIsMissed()
    {
        BenchRun run = BenchSamples.Run(s_usual);
        Assert.Equal(run.Rows.Count(row => row is { Metric: Metric.CpuPerRequest, Floor: not null }), run.FloorsMissed);
        Assert.Contains($"{run.FloorsMissed} of the floors and {run.GoalsMissed} of the goals are missed", Document().Text(run, 0, null), StringComparison.Ordinal);
    }

    [Fact]
    public void Text_NewerQemu_IsAColumnWhereItTookPart()
    {
        Assert.DoesNotContain("newer QEMU", Document().Text(BenchSamples.Run(s_usual), 0, null), StringComparison.Ordinal);
        string text = Document(newer: "qemu-storage-daemon version 10.2.2").Text(BenchSamples.Run([.. s_usual, Contender.NewerQemu]), 0, null);
        Assert.Contains("| workload | BlockMount | QEMU | native file (raw) | newer QEMU | unit |", text, StringComparison.Ordinal);
        Assert.Contains("Newer QEMU: qemu-storage-daemon version 10.2.2", text, StringComparison.Ordinal);
    }

    [Fact]
    public void Text_LoadThatFailed_StaysWithItsReason()
    {
        BenchRun whole = BenchSamples.Run(s_usual);
        Failures failures = new();
        failures.Add("FUSE 4k randread QD1, chain of 256", Contender.BlockMount, "'blockmount x' ended with 1\n\nblockmount: the chain is too deep\n");
        string text = Document().Text(whole with { Measurements = new Measurements(), Failures = failures }, null, null);
        Assert.Contains("- FUSE 4k randread QD1, chain of 256, BlockMount: blockmount: the chain is too deep\n", text, StringComparison.Ordinal);
        Assert.Contains("| FUSE 4k randread QD1 | - | - | - | IOPS | - | QEMU | - | >= 2.5x not measured | >= 6x not measured |\n", text, StringComparison.Ordinal);
    }

    [Fact]
    public void Text_Header_SaysHowItWasMeasured()
    {
        string text = Document(("BENCH_MOUNT_OPTIONS", "transport=uring"), ("BENCH_SECONDS", "0.5")).Text(BenchSamples.Run(s_usual), ringCount: 4, remarks: null);
        Assert.Contains("mounted with `-o transport=uring`; 4 io_uring descriptors open under load", text, StringComparison.Ordinal);
        Assert.Contains("0.5 s measured per run", text, StringComparison.Ordinal);
        Assert.Contains("Images in /here", text, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Write_Again_KeepsTheRemarksAndReplacesTheRest()
    {
        using ScratchFolder folder = new();
        Directory.CreateDirectory(folder["bench"]);
        const string remarks = "Written by hand: {braces}, \"quotes\", | bars |.\n\nA second paragraph.\n";
        await File.WriteAllTextAsync(folder["bench/remarks.md"], remarks);
        for (int run = 0; run < 2; run++)
        {
            await Document().WriteAsync(folder["benchmarks.md"], BenchSamples.Run(s_usual), ringCount: 0);
        }

        Assert.Equal(remarks, await File.ReadAllTextAsync(folder["bench/remarks.md"]));
        string text = await File.ReadAllTextAsync(folder["benchmarks.md"]);
        Assert.EndsWith("## Remarks\n\n" + remarks, text, StringComparison.Ordinal);
        Assert.Equal(2, text.Split(remarks.Trim()).Length);
    }

    [Fact]
    public async Task Write_Plots_AreThoseThatTheDocumentShows()
    {
        using ScratchFolder folder = new();
        await Document().WriteAsync(folder["benchmarks.md"], BenchSamples.Run(s_usual), ringCount: 0);
        string text = await File.ReadAllTextAsync(folder["benchmarks.md"]);
        string[] plots = Directory.GetFiles(folder["bench"], "*.svg");
        Assert.Equal(5, plots.Length);
        foreach (string plot in plots)
        {
            Assert.Equal("svg", XDocument.Load(plot).Root!.Name.LocalName);
            Assert.Contains($"](bench/{Path.GetFileName(plot)})", text, StringComparison.Ordinal);
        }

        Assert.DoesNotContain("## Remarks", text, StringComparison.Ordinal);
    }

    [Fact]
    public void Table_CellWithABar_IsEscaped_AndAMissingCellIsRefused()
    {
        MarkdownTable table = new("name", "figure:");
        table.Add("a|b", "1");
        Assert.Equal("| name | figure |\n|---|---:|\n| a\\|b | 1 |\n", table.ToString());
        Assert.Throws<ArgumentException>(() => table.Add("only one"));
    }

    private static BenchDocument Document(params (string Name, string Value)[] variables) => Document(null, variables);

    private static BenchDocument Document(string? newer, params (string Name, string Value)[] variables) => new(
        BenchSettings.Read([], name => variables.Where(variable => variable.Name == name).Select(variable => variable.Value).FirstOrDefault()),
        new MachineDescription("a machine", "QEMU 7.2", newer, "tools", "Y"),
        "/here (memory)");
}
