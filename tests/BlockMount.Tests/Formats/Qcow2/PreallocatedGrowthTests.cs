using BlockMount.Base;
using BlockMount.Block.Nodes;
using BlockMount.Formats;
using BlockMount.Formats.Qcow2;
using BlockMount.Formats.Qcow2.Check;
using BlockMount.Formats.Raw;
using BlockMount.TestSupport;
using BlockMount.TestSupport.Faults;
using Xunit;

namespace BlockMount.Tests.Formats.Qcow2;

/// <summary>Growing with preallocation: the new clusters are there, read as zeros, and a failure takes them back.</summary>
public sealed class PreallocatedGrowthTests
{
    private const int OldSize = 20_480 + 512;
    private const int NewSize = 200_704 + 1024;

    public static TheoryData<int, int, int, Preallocation> Shapes()
    {
        TheoryData<int, int, int, Preallocation> data = [];
        foreach (Preallocation mode in Enum.GetValues<Preallocation>())
        {
            data.Add(512, 16, 2, mode);
            data.Add(512, 1, 3, mode);
            data.Add(4096, 64, 3, mode);
            data.Add(65536, 16, 3, mode);
        }

        return data;
    }

    [Theory]
    [MemberData(nameof(Shapes))]
    public async Task Grown_NewSpaceIsAllocatedAndReadsAsZeros(int clusterSize, int refcountBits, int version, Preallocation mode)
    {
        MemoryFile file = await NewImageAsync(clusterSize, refcountBits, version);
        byte[] content = new byte[NewSize];
        new Random(1).NextBytes(content.AsSpan(0, OldSize));
        await using (FormatNode node = await OpenAsync(file.Reopen()))
        {
            // Clusters with old content are free when the growth looks for some.
            await node.WriteAsync(0, content.AsMemory(0, OldSize));
            await node.DiscardAsync(0, 8192);
            await node.FlushAsync();
            await node.FlushAsync();
            await node.ReadAsync(0, content.AsMemory(0, OldSize));
            await node.ResizeAsync(NewSize, mode);
            byte[] read = new byte[NewSize];
            await node.ReadAsync(0, read);
            Assert.True(read.AsSpan().SequenceEqual(content));
        }

        CheckReport report = await ConsistencyCheck.RunAsync(file);
        Assert.True(report.IsClean, report.ToString());
        long inNewSpace = Clusters(NewSize, clusterSize) - Clusters(OldSize, clusterSize);
        Assert.True(mode == Preallocation.Off || report.AllocatedClusters >= inNewSpace, report.ToString());
        await using FormatNode again = await OpenAsync(file.Reopen());
        byte[] all = new byte[NewSize];
        await again.ReadAsync(0, all);
        Assert.True(all.AsSpan().SequenceEqual(content));
    }

    [Theory]
    [InlineData(Preallocation.Metadata)]
    [InlineData(Preallocation.Full)]
    public async Task Grown_OverALongerBackingFile_HidesIt(Preallocation mode)
    {
        byte[] below = new byte[NewSize];
        new Random(3).NextBytes(below);
        MemoryFile file = new();
        await Qcow2Create.CreateAsync(file, new Qcow2CreateOptions { Size = OldSize, ClusterSize = 4096, Backing = new BackingReference("base", "raw") });
        FormatNode backing = new("base", "base", new RawDriver(new MemoryFile("base", readOnly: true, below)), backing: null);
        await using FormatNode node = new("node0", "a", await Qcow2Driver.OpenAsync(file.Reopen(), new Qcow2OpenOptions()), backing);
        await node.ResizeAsync(NewSize, mode);
        byte[] read = new byte[NewSize];
        await node.ReadAsync(0, read);
        Assert.True(read.AsSpan(0, OldSize).SequenceEqual(below.AsSpan(0, OldSize)));
        Assert.False(read.AsSpan(OldSize).ContainsAnyExcept((byte)0));
    }

    [Theory]
    [InlineData(Preallocation.Metadata)]
    [InlineData(Preallocation.Full)]
    public async Task EveryChangeFailing_LeavesTheOldOrTheNewSizeAndNoDamage(Preallocation mode)
    {
        MemoryFile prepared = await NewImageAsync(512, 16, 3);
        int failures = 0;
        for (int failing = 1; ; failing++)
        {
            MemoryFile inner = new("a", readOnly: false, prepared.ToArray());
            FaultyFile file = new(inner, plan: null);
            FormatNode node = new("node0", "a", await Qcow2Driver.OpenAsync(file, new Qcow2OpenOptions { CacheBytes = 1 }), backing: null);
            file.SetPlan(new FaultPlan { FailFrom = failing, Errno = Errno.ENOSPC, Calls = StorageCalls.Changes, Forever = failing % 2 == 0 });
            bool grown = await SucceedsAsync(() => node.ResizeAsync(NewSize, mode));
            await SucceedsAsync(node.DisposeAsync);
            CheckReport report = await ConsistencyCheck.RunAsync(inner.Reopen(readOnly: true));
            Assert.True(report.Corruptions == 0, $"call {failing}: {report}");
            await using FormatNode again = await OpenAsync(inner.Reopen());
            Assert.True(again.Size == (grown ? NewSize : OldSize) || (!grown && again.Size == NewSize), $"call {failing}: {again.Size}");
            if (file.Faults == 0)
            {
                Assert.True(grown);
                break;
            }

            failures++;
        }

        Assert.True(failures > 20, $"only {failures} failing calls");
    }

    [Fact]
    public async Task NoSpace_GivesBackWhatWasPreallocated()
    {
        MemoryFile file = await NewImageAsync(512, 16, 3);
        FaultyFile faulty = new(file.Reopen(), plan: null);
        await using (FormatNode node = new("node0", "a", await Qcow2Driver.OpenAsync(faulty, new Qcow2OpenOptions()), backing: null))
        {
            faulty.SetPlan(new FaultPlan { FailFrom = 12, Errno = Errno.ENOSPC, Calls = StorageCalls.Write });
            await Assert.ThrowsAsync<BlockIOException>(async () => await node.ResizeAsync(NewSize, Preallocation.Full));
            Assert.Equal(OldSize, node.Size);
        }

        CheckReport report = await ConsistencyCheck.RunAsync(file.Reopen(readOnly: true));
        Assert.True(report.IsClean, report.ToString());
        Assert.Equal(0, report.AllocatedClusters);
    }

    [Fact]
    public async Task Shrinking_WithPreallocation_IsRefused()
    {
        await using FormatNode node = await OpenAsync((await NewImageAsync(4096, 16, 3)).Reopen());
        await Assert.ThrowsAsync<BlockIOException>(async () => await node.ResizeAsync(512, Preallocation.Metadata));
        await using FormatNode raw = new("raw", "raw", new RawDriver(new MemoryFile("raw", content: new byte[8192])), backing: null);
        await Assert.ThrowsAsync<BlockIOException>(async () => await raw.ResizeAsync(512, Preallocation.Full));
        await Assert.ThrowsAsync<BlockIOException>(async () => await raw.ResizeAsync(16384, Preallocation.Metadata));
        Assert.Equal(8192, raw.Size);
    }

    private static long Clusters(long bytes, int clusterSize) => (bytes + clusterSize - 1) / clusterSize;

    private static async ValueTask<bool> SucceedsAsync(Func<ValueTask> action)
    {
        try
        {
            await action();
            return true;
        }
        catch (BlockIOException)
        {
            return false;
        }
    }

    private static async Task<MemoryFile> NewImageAsync(int clusterSize, int refcountBits, int version)
    {
        MemoryFile file = new();
        await Qcow2Create.CreateAsync(
            file, new Qcow2CreateOptions { Size = OldSize, ClusterSize = clusterSize, RefcountBits = refcountBits, Version = version });
        return file;
    }

    private static async Task<FormatNode> OpenAsync(MemoryFile file) =>
        new("node0", file.Name, await Qcow2Driver.OpenAsync(file, new Qcow2OpenOptions { DiscardToHost = false }), backing: null);
}
