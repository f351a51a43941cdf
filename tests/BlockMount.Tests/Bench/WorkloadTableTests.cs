using BlockMount.Bench;
using BlockMount.Bench.Loads;
using Xunit;

namespace BlockMount.Tests.Bench;

/// <summary>The plan: what is measured, with which bounds, and what a filter selects.</summary>
public sealed class WorkloadTableTests
{
    private static readonly int[] s_chainDepths = [1, 8, 64, 256];
    private static readonly int[] s_queueDepths = [1, 2, 4, 8, 16, 32, 64];

    [Fact]
    public void Rows_HaveNamesOfTheirOwn()
    {
        string[] names = [.. WorkloadTable.Rows.Select(row => row.Name)];
        Assert.Equal(names.Distinct(), names);
    }

    [Theory]
    [InlineData("FUSE 4k randread QD1", 2.5, 6.0)]
    [InlineData("FUSE 4k randread QD32", 2.5, 4.0)]
    [InlineData("FUSE 4k randwrite in place QD1", 2.5, 6.0)]
    [InlineData("FUSE 4k randwrite in place QD32", 2.5, 3.5)]
    [InlineData("FUSE 1M seq read", 2.5, 3.7)]
    [InlineData("FUSE 1M seq write", 1.0, 1.4)]
    [InlineData("FUSE 4k randread QD1, p99", 0.7, 0.2)]
    [InlineData("FUSE 4k randread QD32, 2 jobs", 2.5, 4.5)]
    [InlineData("FUSE 64k seq write, allocating", 1.2, 2.5)]
    [InlineData("FUSE 4k randwrite, allocating", 1.2, 2.5)]
    [InlineData("NBD 4k randread QD1", 1.5, 3.0)]
    [InlineData("NBD 4k randread QD32", 2.5, 4.5)]
    [InlineData("NBD 4k randread QD32, 2 connections", 2.5, 5.0)]
    [InlineData("NBD 4k randread QD32, 2 connections, against nbdkit's raw file", null, 1.5)]
    [InlineData("NBD 4k randwrite in place QD32", 2.5, 4.5)]
    [InlineData("NBD 1M seq read", 1.2, 2.5)]
    [InlineData("FUSE 4k randread QD1, chain of 64, against a chain of 1", null, 1.1)]
    [InlineData("FUSE 4k randread QD1, raw image, read-only, against the file itself", null, 0.9)]
    [InlineData("FUSE 4k randread QD32, CPU per request", 0.7, 0.4)]
    public void Rows_HaveTheBoundsOfTheProject(string name, double? floor, double? goal)
    {
        Workload row = Assert.Single(WorkloadTable.Rows, row => row.Name == name);
        Assert.Equal((floor, goal), (row.Floor, row.Goal));
    }

    [Fact]
    public void Groups_ContainEveryLoad_AndThoseThatAreComparedTogether()
    {
        foreach (Workload row in WorkloadTable.Rows)
        {
            LoadGroup first = WorkloadTable.Groups.First(group => group.Loads.Contains(row.Load));
            Assert.Contains(row.OwnBaseline ?? row.Load, first.Loads);
            if (row.OwnBaseline is null)
            {
                Assert.Contains(row.Against, first.Contenders(row.Load, newerQemu: false));
            }
        }
    }

    [Fact]
    public void Groups_SweepsOfThePlots_AreMeasured()
    {
        Load[] measured = [.. WorkloadTable.Groups.SelectMany(group => group.Loads)];
        Assert.All(s_chainDepths, depth => Assert.Contains(WorkloadTable.Chain(depth), measured));
        Assert.All(s_queueDepths, depth => Assert.Contains(WorkloadTable.RandomReadAt(depth), measured));
    }

    [Fact]
    public void Contenders_NewerQemu_TakesPartWhereItIsNamed()
    {
        LoadGroup group = new([WorkloadTable.NbdRandomRead]);
        Assert.Equal([Contender.BlockMount, Contender.Qemu, Contender.Nbdkit], group.Contenders(WorkloadTable.NbdRandomRead, newerQemu: false));
        Assert.Equal(
            [Contender.BlockMount, Contender.Qemu, Contender.NewerQemu, Contender.Nbdkit], group.Contenders(WorkloadTable.NbdRandomRead, newerQemu: true));
    }

    [Fact]
    public void Plan_SeveralFilters_SelectsWhatAnyOfThemNames()
    {
        BenchSettings settings = BenchSettings.Read(["chain of 64", "nbd 1m"], _ => null);
        IReadOnlyList<Workload> rows = RunPlan.Rows(settings);
        Assert.Equal(["FUSE 4k randread QD1, chain of 64, against a chain of 1", "NBD 1M seq read"], rows.Select(row => row.Name));
        // The chain of 1 comes along: the ratio is to it.
        Assert.Equal(
            [WorkloadTable.RandomRead, WorkloadTable.Chain(64)], RunPlan.Groups(settings, rows)[0].Loads);
    }

    [Fact]
    public void Plan_QuickLook_IsAPartOfTheRowsWithEveryLoadThatTheyNeed()
    {
        BenchSettings settings = BenchSettings.Read(["--quick"], _ => null);
        IReadOnlyList<Workload> rows = RunPlan.Rows(settings);
        Load[] measured = [.. RunPlan.Groups(settings, rows).SelectMany(group => group.Loads).Distinct()];
        Assert.InRange(rows.Count, 1, WorkloadTable.Rows.Count / 2);
        Assert.All(rows, row => Assert.Contains(row.Load, measured));
        Assert.All(rows, row => Assert.Contains(row.OwnBaseline ?? row.Load, measured));
        Assert.Equal(7, measured.Length);
    }

    [Fact]
    public void Plan_LoadOfASweep_CanBeNamed()
    {
        BenchSettings settings = BenchSettings.Read(["QD16"], _ => null);
        IReadOnlyList<Workload> rows = RunPlan.Rows(settings);
        Assert.Empty(rows);
        Assert.Equal(WorkloadTable.RandomReadAt(16), Assert.Single(Assert.Single(RunPlan.Groups(settings, rows)).Loads));
    }
}
