using BlockMount.Formats.Qcow2;
using BlockMount.Formats.Qcow2.Metadata;
using Xunit;

namespace BlockMount.Tests.Formats.Qcow2;

/// <summary>The map from host clusters to kinds of metadata equals a plain model, stays small, and can be read while it changes.</summary>
public sealed class MetadataMapTests
{
    private static readonly MetadataKinds[] s_kinds = [MetadataKinds.ActiveL1, MetadataKinds.ActiveL2, MetadataKinds.RefcountBlock, MetadataKinds.InactiveL1];

    [Fact]
    public void EmptyMap_KnowsTheHeaderOnly()
    {
        MetadataMap map = new();
        Assert.Equal(MetadataKinds.MainHeader, map.KindsOf(new HostCluster(0)));
        Assert.Equal(MetadataKinds.None, map.KindsOf(new HostCluster(1)));
        // The last cluster that 56 bits of host offset can name, with the smallest clusters.
        Assert.Equal(MetadataKinds.None, map.KindsOf(new HostCluster((1L << 47) - 1)));
    }

    [Fact]
    public void LastClusterOfTheFormat_IsKept()
    {
        MetadataMap map = new();
        HostCluster last = new((1L << 47) - 1);
        map.Add(new HostRun(last, 1), MetadataKinds.BitmapDirectory);
        Assert.Equal(MetadataKinds.BitmapDirectory, map.KindsOf(last));
        Assert.Equal(MetadataKinds.None, map.KindsOf(new HostCluster(last.Index - 1)));
    }

    [Fact]
    public void RandomChanges_EqualAModel()
    {
        Random random = new(3);
        MetadataMap map = new();
        Dictionary<long, MetadataKinds> model = new() { [0] = MetadataKinds.MainHeader };
        for (int i = 0; i < 20_000; i++)
        {
            HostRun run = new(new HostCluster(1 + random.Next(3000)), 1 + random.Next(4));
            MetadataKinds kind = s_kinds[random.Next(s_kinds.Length)];
            bool add = random.Next(2) == 0;
            for (long k = run.Start.Index; k < run.End.Index; k++)
            {
                MetadataKinds now = model.GetValueOrDefault(k);
                if (now.HasFlag(kind) != add)
                {
                    HostRun one = new(new HostCluster(k), 1);
                    model[k] = add ? now | kind : now & ~kind;
                    (add ? (Action<HostRun, MetadataKinds>)map.Add : map.Remove)(one, kind);
                }
            }
        }

        for (long k = 0; k < 3100; k++)
        {
            Assert.Equal(model.GetValueOrDefault(k), map.KindsOf(new HostCluster(k)));
            Assert.False(map.IsShared(new HostCluster(k)));
        }
    }

    [Fact]
    public void SameKindTwice_IsShared_UntilOneIsTakenBack()
    {
        MetadataMap map = new();
        HostRun run = new(new HostCluster(7), 1);
        map.Add(run, MetadataKinds.ActiveL2);
        map.Add(run, MetadataKinds.InactiveL2);
        Assert.False(map.IsShared(run.Start));
        map.Add(run, MetadataKinds.ActiveL2);
        Assert.True(map.IsShared(run.Start));
        map.Remove(run, MetadataKinds.ActiveL2);
        Assert.False(map.IsShared(run.Start));
        Assert.Equal(MetadataKinds.ActiveL2 | MetadataKinds.InactiveL2, map.KindsOf(run.Start));
        map.Remove(run, MetadataKinds.ActiveL2);
        Assert.Equal(MetadataKinds.InactiveL2, map.KindsOf(run.Start));
    }

    // A full disk of 1 TiB with clusters of 64 KiB: 2,048 L2 tables and 512 refcount blocks.
    [Fact]
    public void TablesOfOneTebibyte_CostLittleMemory()
    {
        long before = GC.GetAllocatedBytesForCurrentThread();
        MetadataMap map = new();
        for (int i = 0; i < 2048; i++)
        {
            map.Add(new HostRun(new HostCluster(5 + (i * 8192L)), 1), MetadataKinds.ActiveL2);
        }

        for (int i = 0; i < 512; i++)
        {
            map.Add(new HostRun(new HostCluster(1 + (i * 32768L)), 1), MetadataKinds.RefcountBlock);
        }

        long allocated = GC.GetAllocatedBytesForCurrentThread() - before;
        Assert.True(allocated < 200_000, $"{allocated} bytes");
    }

    [Fact]
    public async Task LookUps_BesideChanges_NeverMissWhatStays()
    {
        MetadataMap map = new();
        HostCluster stays = new(12345);
        map.Add(new HostRun(stays, 1), MetadataKinds.RefcountTable);
        using CancellationTokenSource end = new();
        Task<int> reader = Task.Run(() =>
        {
            int missed = 0;
            while (!end.IsCancellationRequested)
            {
                missed += map.KindsOf(stays) == MetadataKinds.RefcountTable ? 0 : 1;
            }

            return missed;
        });
        for (int i = 0; i < 300_000; i++)
        {
            HostRun run = new(new HostCluster(20_000 + (i % 5000)), 1);
            map.Add(run, MetadataKinds.ActiveL2);
            map.Remove(run, MetadataKinds.ActiveL2);
        }

        await end.CancelAsync();
        Assert.Equal(0, await reader);
    }
}
