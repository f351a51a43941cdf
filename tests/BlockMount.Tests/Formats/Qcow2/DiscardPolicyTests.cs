using BlockMount.Block.Nodes;
using BlockMount.Formats;
using BlockMount.Formats.Qcow2;
using BlockMount.Formats.Qcow2.Allocation;
using BlockMount.Formats.Qcow2.Check;
using BlockMount.TestSupport;
using BlockMount.TestSupport.Crash;
using BlockMount.TestSupport.Images;
using Xunit;

namespace BlockMount.Tests.Formats.Qcow2;

/// <summary>Which freed space goes back to the host, and discards that keep their cluster (FEATURES F36).</summary>
public sealed class DiscardPolicyTests
{
    private const int Cluster = 1024;
    private const int Size = 256 << 10;

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Request_IsPassedOnWhenAsked(bool pass)
    {
        (MemoryFile file, StorageLog log) = Empty();
        await using (FormatNode node = await OpenAsync(file, log, new Qcow2OpenOptions { DiscardToHost = pass, PassDiscardOther = true }))
        {
            await node.WriteAsync(0, Filled(4 * Cluster));
            await node.DiscardAsync(0, 3 * Cluster);
        }

        Assert.Equal(pass ? 3 * Cluster : 0, Punched(log));
        await AssertCleanAsync(file);
    }

    // An L1 table that moves, and a shared L2 table that is left: freed, but not by a request.
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Other_IsPassedOnWhenAsked(bool pass)
    {
        (MemoryFile file, StorageLog log) = Empty();
        await using (FormatNode node = await OpenAsync(file, log, new Qcow2OpenOptions { PassDiscardOther = pass }))
        {
            await node.WriteAsync(0, Filled(Cluster));
            await node.ResizeAsync(32 << 20);
        }

        // The old L1 table had one cluster.
        Assert.Equal(pass ? Cluster : 0, Punched(log));
        await AssertCleanAsync(file);
    }

    [RequiresTheory(Needs.None, "qemu-img", "qemu-io")]
    [InlineData(true)]
    [InlineData(false)]
    public async Task OverwrittenCompressedCluster_IsOther(bool pass)
    {
        using ScratchFolder folder = new();
        await QemuImg.SaveAsync(folder["source"], Filled(Cluster));
        await QemuImg.RunAsync("convert", "-c", "-f", "raw", "-O", "qcow2", "-o", "cluster_size=1k", folder["source"], folder["image"]);
        MemoryFile file = await QemuImg.LoadAsync(folder["image"]);
        StorageLog log = new();
        await using (FormatNode node = await OpenAsync(file, log, new Qcow2OpenOptions { PassDiscardOther = pass }))
        {
            await node.WriteAsync(0, Filled(Cluster));
        }

        Assert.Equal(pass, Punched(log) > 0);
        await AssertCleanAsync(file);
    }

    [Fact]
    public void Reasons_AreKeptApart()
    {
        DiscardPolicy policy = new(PassRequest: false, PassSnapshot: true, PassOther: false);
        Assert.False(policy.Passes(FreeReason.Request));
        Assert.True(policy.Passes(FreeReason.Snapshot));
        Assert.False(policy.Passes(FreeReason.Other));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task DiscardNoUnref_KeepsThePlace_AndPunchesItWhenDiscardsArePassed(bool pass)
    {
        (MemoryFile file, StorageLog log) = Empty();
        long before;
        Qcow2OpenOptions options = new() { DiscardNoUnref = true, DiscardToHost = pass };
        await using (FormatNode node = await OpenAsync(file, log, options))
        {
            await node.WriteAsync(0, Filled(8 * Cluster));
            await node.FlushAsync();
            before = new LiveImageSurgeon(file).Data(2);
            await node.DiscardAsync(2 * Cluster, 3 * Cluster);
            byte[] read = new byte[8 * Cluster];
            await node.ReadAsync(0, read);
            Assert.All(read[(2 * Cluster)..(5 * Cluster)], value => Assert.Equal(0, value));
            Assert.Equal(pass ? 3 * Cluster : 0, Punched(log));
            await node.FlushAsync();
            Assert.Equal((ulong)before | LiveImageSurgeon.Copied | 1, new LiveImageSurgeon(file).U64(new LiveImageSurgeon(file).L2() + 16));
            // The next write takes the same place.
            await node.WriteAsync(2 * Cluster, Filled(Cluster));
            await node.ReadAsync(0, read);
            Assert.Equal(Filled(Cluster), read[(2 * Cluster)..(3 * Cluster)]);
        }

        Assert.Equal(before, new LiveImageSurgeon(file).Data(2));
        await AssertCleanAsync(file);
    }

    // The hole is punched before anybody can fill the cluster again (RELIABILITY D3): the fill waits for the discard.
    [Fact]
    public async Task DiscardNoUnref_PunchThatTakesLong_HoldsTheRefillBack()
    {
        (MemoryFile file, StorageLog log) = Empty();
        TaskCompletionSource punching = new(TaskCreationOptions.RunContinuationsAsynchronously);
        TaskCompletionSource goOn = new(TaskCreationOptions.RunContinuationsAsynchronously);
        bool slow = false;
        Func<ValueTask> pause = async () =>
        {
            if (slow)
            {
                slow = false;
                punching.SetResult();
                await goOn.Task;
            }
        };
        Qcow2Driver driver = await Qcow2Driver.OpenAsync(new RecordingFile(file.Reopen(), log, pause), new Qcow2OpenOptions { DiscardNoUnref = true });
        await using FormatNode node = new("node0", "image", driver, backing: null);
        await node.WriteAsync(0, Filled(2 * Cluster));
        slow = true;
        Task discard = node.DiscardAsync(0, Cluster).AsTask();
        await punching.Task;
        Task write = node.WriteAsync(0, Filled(Cluster)).AsTask();
        Assert.False(discard.IsCompleted);
        Assert.False(write.IsCompleted);
        goOn.SetResult();
        await discard;
        await write;
        byte[] read = new byte[Cluster];
        await node.ReadAsync(0, read);
        Assert.Equal(Filled(Cluster), read);
    }

    // A cluster that a snapshot shares must keep its content.
    [RequiresFact(Needs.None, "qemu-img", "qemu-io")]
    public async Task DiscardNoUnref_OfASharedCluster_LeavesTheSnapshotAlone()
    {
        using ScratchFolder folder = new();
        string path = folder["image"];
        await QemuImg.RunAsync("create", "-q", "-f", "qcow2", "-o", "cluster_size=1k", path, "256k");
        await QemuImg.IoAsync(path, "write -P 7 0 8k");
        await QemuImg.RunAsync("snapshot", "-c", "s", path);
        MemoryFile file = await QemuImg.LoadAsync(path);
        await using (FormatNode node = await OpenAsync(file, new StorageLog(), new Qcow2OpenOptions { DiscardNoUnref = true }))
        {
            await node.DiscardAsync(0, 8 * Cluster);
            byte[] read = new byte[8 * Cluster];
            await node.ReadAsync(0, read);
            Assert.All(read, value => Assert.Equal(0, value));
        }

        await QemuImg.SaveAsync(path, file.ToArray());
        Assert.Equal(0, (await QemuImg.CheckAsync(path)).ExitCode);
        await QemuImg.RunAsync("snapshot", "-a", "s", path);
        byte[] guest = await QemuImg.ReadGuestAsync(path, folder["guest"]);
        Assert.All(guest[..(8 * Cluster)], value => Assert.Equal(7, value));
    }

    [Fact]
    public async Task DiscardNoUnref_OfVersion2_IsRefused()
    {
        MemoryFile file = new("image", readOnly: false, EmptyImage.Create(new ImageGeometry { Version = 2 }));
        await Assert.ThrowsAsync<ImageFormatException>(
            () => Qcow2Driver.OpenAsync(file, new Qcow2OpenOptions { DiscardNoUnref = true }).AsTask());
    }

    private static (MemoryFile File, StorageLog Log) Empty() =>
        (new MemoryFile("image", readOnly: false, EmptyImage.Create(new ImageGeometry { ClusterBits = 10, Size = Size })), new StorageLog());

    private static byte[] Filled(int length)
    {
        byte[] data = new byte[length];
        data.AsSpan().Fill(0x33);
        return data;
    }

    private static long Punched(StorageLog log) => log.Entries.Where(entry => entry.Kind == StorageCalls.PunchHole).Sum(entry => entry.Length);

    private static async Task AssertCleanAsync(MemoryFile file)
    {
        CheckReport report = await ConsistencyCheck.RunAsync(file.Reopen(readOnly: true));
        Assert.True(report.IsClean, report.ToString());
    }

    private static async Task<FormatNode> OpenAsync(MemoryFile file, StorageLog log, Qcow2OpenOptions options) =>
        new("node0", "image", await Qcow2Driver.OpenAsync(new RecordingFile(file.Reopen(), log), options), backing: null);
}
