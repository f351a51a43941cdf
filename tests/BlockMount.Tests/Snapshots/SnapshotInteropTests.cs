using BlockMount.Base;
using BlockMount.Block.Devices;
using BlockMount.TestSupport;
using BlockMount.TestSupport.Model;
using Xunit;

namespace BlockMount.Tests.Snapshots;

/// <summary>
/// Internal snapshots made, read, applied and deleted by this program and by qemu-img in turns, over content of every kind; qemu-img check is
/// clean after every step.
/// </summary>
public sealed class SnapshotInteropTests : IDisposable
{
    private const int Steps = 24;

    private readonly ScratchFolder _folder = new();

    /// <summary>Options of qemu-img create, cluster size, and the snapshots for which the refcounts are wide enough.</summary>
    public static TheoryData<string, int, int> Shapes => new()
    {
        { "compat=0.10", 65536, 4 },
        { "compat=0.10,cluster_size=512", 512, 4 },
        { "refcount_bits=2,cluster_size=4096", 4096, 1 },
        { "refcount_bits=4,cluster_size=1024", 1024, 2 },
        { "refcount_bits=8,cluster_size=512", 512, 4 },
        { "refcount_bits=16,compression_type=zstd", 65536, 4 },
        { "refcount_bits=32,cluster_size=512", 512, 4 },
        { "refcount_bits=64,cluster_size=512", 512, 4 },
        { "refcount_bits=64,cluster_size=2M", 2 << 20, 3 },
        { "extended_l2=on,cluster_size=16k", 16 << 10, 4 },
        { "lazy_refcounts=on,cluster_size=4096", 4096, 4 },
    };

    public void Dispose() => _folder.Dispose();

    [RequiresTheory(Needs.Zstd, "qemu-img", "qemu-io")]
    [MemberData(nameof(Shapes))]
    public async Task StepsOfBothPrograms_InTurns_KeepEverySnapshot(string options, int clusterSize, int snapshotsMax)
    {
        foreach (int seed in TestBudget.Seeds(80_000, 2))
        {
            Random random = new(seed);
            long size = Math.Min(40L * clusterSize, 24 << 20);
            SnapshotImage image = await MakeAsync(options, size, random);
            Dictionary<string, byte[]> snapshots = [];
            for (int step = 0; step < Steps; step++)
            {
                await StepAsync(image, snapshots, random, step, clusterSize, snapshotsMax, isVersion2: options.StartsWith("compat=0.10", StringComparison.Ordinal));
            }

            foreach ((string name, byte[] content) in snapshots)
            {
                Assert.True(SnapshotImage.Same(content, await image.ReadAsync(name)), $"{name}: {TestBudget.Replay(seed, nameof(SnapshotInteropTests))}");
                await image.ApplyAsync(name);
                Assert.True(SnapshotImage.Same(content, await image.QemuReadAsync()), name);
                await image.DeleteAsync(name);
            }

            File.Delete(image.Path);
        }
    }

    [RequiresFact(Needs.None, "qemu-img", "qemu-io")]
    public async Task Apply_DifferentDiskSizes_BringsTheSizeBack()
    {
        SnapshotImage image = await MakeAsync("cluster_size=4096", 1 << 20, new Random(1));
        byte[] small = await image.QemuReadAsync();
        await image.CreateAsync("small");
        await QemuImg.RunAsync("resize", "-q", image.Path, "3M");
        await image.IoAsync("write -P 0x77 2M 64k");
        byte[] large = await image.QemuReadAsync();
        await image.QemuAsync("-c", "large");
        Assert.Equal(1 << 20, (await image.ReadAsync("small")).Length);
        Assert.True(SnapshotImage.Same(large, await image.ReadAsync("large")));
        await image.ApplyAsync("small");
        Assert.True(SnapshotImage.Same(small, await image.QemuReadAsync()));
        await image.QemuAsync("-a", "large");
        Assert.True(SnapshotImage.Same(large, await image.ReadAsync()));
        await image.QemuAsync("-a", "small");
        await image.ApplyAsync("large");
        Assert.True(SnapshotImage.Same(large, await image.QemuReadAsync()));
        await image.DeleteAsync("large");
        await image.DeleteAsync("small");
        Assert.True(SnapshotImage.Same(large, await image.QemuReadAsync()));
    }

    // The saved state of a machine lies behind the disk's last L1 entry.
    [RequiresTheory(Needs.None, "qemu-img", "qemu-io")]
    [InlineData("cluster_size=4096")]
    [InlineData("cluster_size=512,compat=0.10")]
    public async Task VmState_OfQemu_ComesBackAndIsNotTakenAlong(string options)
    {
        SnapshotImage image = await MakeAsync(options, 256 << 10, new Random(2));
        await image.IoAsync("write -b -P 0x11 0 64k");
        await image.QemuAsync("-c", "with");
        await image.IoAsync("write -b -P 0x22 0 64k", "write -P 0x33 0 64k");
        await image.CreateAsync("without");
        // It stays where it was.
        await image.IoAsync("read -b -P 0x22 0 64k");
        await image.ApplyAsync("with");
        await image.IoAsync("read -b -P 0x11 0 64k");
        await image.ApplyAsync("without");
        await image.IoAsync("read -b -P 0 0 64k", "read -P 0x33 0 64k");
        await image.ApplyAsync("with");
        await image.IoAsync("read -b -P 0x11 0 64k", "write -b -P 0x44 4096 4096");
        await image.AssertCleanAsync("write of VM state");
        await image.DeleteAsync("with");
        await image.IoAsync("read -b -P 0x11 0 4096", "read -b -P 0x44 4096 4096", "read -b -P 0x11 8192 56k");
        await image.QemuAsync("-d", "without");
    }

    [RequiresFact(Needs.None, "qemu-img", "qemu-io")]
    public async Task OneBitRefcounts_RefuseWithoutAChange()
    {
        SnapshotImage image = new(_folder);
        await QemuImg.RunAsync("create", "-q", "-f", "qcow2", "-o", "refcount_bits=1,cluster_size=4096", image.Path, "1M");
        // Without data nothing is shared, and even here there is room.
        await image.CreateAsync("empty");
        await image.IoAsync("write -P 5 0 64k");
        byte[] before = await File.ReadAllBytesAsync(image.Path);
        var e = await Assert.ThrowsAsync<BlockIOException>(() => image.CreateAsync("full"));
        Assert.Equal(Errno.EINVAL, e.Errno);
        await image.AssertCleanAsync("a refused snapshot");
        Assert.Contains("refcount_bits", e.Hint, StringComparison.Ordinal);
        byte[] after = await File.ReadAllBytesAsync(image.Path);
        // Free clusters were written to, and the file may be longer; what was in use is untouched.
        Assert.Equal(before[..512], after[..512]);
        await image.IoAsync("read -P 5 0 64k");
        await image.ApplyAsync("empty");
        await image.IoAsync("read -P 0 0 64k");
    }

    [RequiresFact(Needs.None, "qemu-img")]
    public async Task EmptyDisk_CanBeKeptAndForgotten()
    {
        SnapshotImage image = new(_folder);
        await QemuImg.RunAsync("create", "-q", "-f", "qcow2", image.Path, "0");
        await image.CreateAsync("nothing");
        await image.QemuAsync("-c", "nothing more");
        await image.ApplyAsync("nothing");
        await image.DeleteAsync("nothing more");
        await image.QemuAsync("-d", "nothing");
    }

    [RequiresFact(Needs.None, "qemu-img")]
    public async Task NamesAndIds_AreFoundAsQemuFindsThem()
    {
        SnapshotImage image = new(_folder);
        await QemuImg.RunAsync("create", "-q", "-f", "qcow2", image.Path, "1M");
        await image.CreateAsync("twice");
        await image.QemuAsync("-c", "twice");
        await image.CreateAsync("2");
        var snapshots = await image.OpenAsync(device => device.ListSnapshotsAsync(), readOnly: true);
        Assert.Equal([("1", "twice"), ("2", "twice"), ("3", "2")], snapshots.Select(snapshot => (snapshot.Id, snapshot.Name)));
        // An id goes before a name.
        await image.DeleteAsync("2");
        snapshots = await image.OpenAsync(device => device.ListSnapshotsAsync(), readOnly: true);
        Assert.Equal(["1", "3"], snapshots.Select(snapshot => snapshot.Id));
        var e = await Assert.ThrowsAsync<BlockIOException>(() => image.ApplyAsync("4"));
        Assert.Equal(Errno.ENOENT, e.Errno);
        e = await Assert.ThrowsAsync<BlockIOException>(() => image.DeleteAsync("nobody"));
        Assert.Equal(Errno.ENOENT, e.Errno);
        e = await Assert.ThrowsAsync<BlockIOException>(() => image.CreateAsync(new string('n', 256)));
        Assert.Equal(Errno.EINVAL, e.Errno);
        await image.CreateAsync(new string('n', 255));
        Assert.Contains(new string('n', 255), await QemuImg.RunAsync("snapshot", "-l", image.Path), StringComparison.Ordinal);
        e = await Assert.ThrowsAsync<BlockIOException>(() => image.ReadAsync("nobody"));
        Assert.Equal(Errno.ENOENT, e.Errno);
        e = await Assert.ThrowsAsync<BlockIOException>(() => image.OpenAsync(device => new ValueTask<long>(device.Size), readOnly: false, snapshot: "1"));
        Assert.Equal(Errno.EINVAL, e.Errno);
    }

    // A bitmap does not belong to a snapshot, and says nothing of the disk that one would bring back: both programs refuse to go back.
    [RequiresFact(Needs.None, "qemu-img", "qemu-io")]
    public async Task PersistentBitmaps_StayValidAndForbidToGoBack()
    {
        SnapshotImage image = await MakeAsync("cluster_size=4096", 1 << 20, new Random(4));
        await QemuImg.RunAsync("bitmap", "--add", "--disable", image.Path, "b");
        await image.CreateAsync("small");
        await image.OpenAsync(async device =>
        {
            await device.ResizeAsync(3 << 20);
            await device.CreateSnapshotAsync("large", SnapshotModel.Moment);
            var e = await Assert.ThrowsAsync<BlockIOException>(async () => await device.ApplySnapshotAsync("small"));
            Assert.Equal(Errno.EBUSY, e.Errno);
            await device.DeleteSnapshotAsync("large");
            return true;
        });
        await image.AssertCleanAsync("snapshots beside a bitmap");
        string info = await QemuImg.RunAsync("info", image.Path);
        Assert.Contains("name: b", info, StringComparison.Ordinal);
        Assert.DoesNotContain("in-use", info, StringComparison.Ordinal);
        Assert.Equal(1, (await ToolProcess.RunAsync("qemu-img", "snapshot", "-a", "small", image.Path)).ExitCode);
        await QemuImg.RunAsync("bitmap", "--remove", image.Path, "b");
        await image.ApplyAsync("small");
    }

    [RequiresFact(Needs.None, "qemu-img", "qemu-io")]
    public async Task Size_Version2WithSnapshots_CannotChange()
    {
        SnapshotImage image = await MakeAsync("compat=0.10", 1 << 20, new Random(3));
        await image.CreateAsync("s");
        var e = await Assert.ThrowsAsync<BlockIOException>(() => image.OpenAsync(async device =>
        {
            await device.ResizeAsync(2 << 20);
            return true;
        }));
        Assert.Equal(Errno.EOPNOTSUPP, e.Errno);
        // After the last one is gone it can, in the same session.
        await image.OpenAsync(async device =>
        {
            await device.DeleteSnapshotAsync("s");
            await device.ResizeAsync(2 << 20);
            return true;
        });
        await image.AssertCleanAsync("delete and resize");
    }

    private async Task<SnapshotImage> MakeAsync(string options, long size, Random random)
    {
        byte[] below = new byte[size * 3 / 4];
        random.NextBytes(below);
        await File.WriteAllBytesAsync(_folder["below"], below);
        SnapshotImage image = new(_folder);
        await QemuImg.RunAsync("create", "-q", "-f", "qcow2", "-b", "below", "-F", "raw", "-o", options, image.Path, QemuImg.Bytes(size));
        await image.IoAsync($"write -P 0x5a 0 {QemuImg.Bytes(size / 8)}");
        return image;
    }

    private static async Task StepAsync(
        SnapshotImage image, Dictionary<string, byte[]> snapshots, Random random, int step, int clusterSize, int snapshotsMax, bool isVersion2)
    {
        bool byQemu = random.Next(2) == 0;
        string? existing = snapshots.Count == 0 ? null : snapshots.Keys.ElementAt(random.Next(snapshots.Count));
        switch (random.Next(6))
        {
            case 0 when snapshots.Count < snapshotsMax:
                string name = $"at {step}";
                snapshots.Add(name, await image.QemuReadAsync());
                await (byQemu ? image.QemuAsync("-c", name) : image.CreateAsync(name));
                Assert.True(SnapshotImage.Same(snapshots[name], await image.QemuReadAsync(name)), name);
                Assert.True(SnapshotImage.Same(snapshots[name], await image.ReadAsync(name)), name);
                break;
            case 1 when existing is not null:
                await (byQemu ? image.QemuAsync("-a", existing) : image.ApplyAsync(existing));
                Assert.True(SnapshotImage.Same(snapshots[existing], await image.QemuReadAsync()), existing);
                break;
            case 2 when existing is not null:
                byte[] before = await image.QemuReadAsync();
                await (byQemu ? image.QemuAsync("-d", existing) : image.DeleteAsync(existing));
                snapshots.Remove(existing);
                Assert.True(SnapshotImage.Same(before, await image.QemuReadAsync()), existing);
                break;
            default:
                await WriteAsync(image, random, clusterSize, isVersion2);
                break;
        }
    }

    // Data, compressed clusters, zeros with and without a cluster, holes.
    private static async Task WriteAsync(SnapshotImage image, Random random, int clusterSize, bool isVersion2)
    {
        long clusters = new FileInfo(image.Path).Length > 0 ? (await image.OpenAsync(device => new ValueTask<long>(device.Size), readOnly: true)) / clusterSize : 0;
        List<string> commands = [];
        for (int i = 0; i < 4; i++)
        {
            long cluster = random.NextInt64(clusters);
            string range = $"{QemuImg.Bytes(cluster * clusterSize)} {QemuImg.Bytes(clusterSize * Math.Min(random.Next(1, 4), clusters - cluster))}";
            string one = $"{QemuImg.Bytes(cluster * clusterSize)} {clusterSize}";
            int pattern = random.Next(1, 256);
            commands.Add(random.Next(isVersion2 ? 4 : 6) switch
            {
                0 => $"write -P {pattern} {range}",
                1 => $"write -P {pattern} {QemuImg.Bytes((cluster * clusterSize) + 100)} 300",
                // Fails on a cluster that is allocated already, which qemu-io tells in words: a discard goes before it.
                2 => $"discard {one}",
                3 => $"write -P {pattern} {one}",
                4 => $"write -z {range}",
                _ => $"write -z -u {range}",
            });
        }

        await image.IoAsync([.. commands]);
        await CompressAsync(image, random, clusters, clusterSize);
    }

    private static async Task CompressAsync(SnapshotImage image, Random random, long clusters, int clusterSize)
    {
        for (int i = 0; i < 3; i++)
        {
            // A compressed write onto an allocated cluster is an error (qcow2 in QEMU): then there is just none.
            ToolResult result = await ToolProcess.RunAsync(
                "qemu-io", "-f", "qcow2", "-c", $"write -c -P {random.Next(1, 256)} {QemuImg.Bytes(random.NextInt64(clusters) * clusterSize)} {clusterSize}", image.Path);
            Assert.True(result.ExitCode == 0 || result.Output.Contains("failed", StringComparison.Ordinal), result.Error);
        }
    }
}
