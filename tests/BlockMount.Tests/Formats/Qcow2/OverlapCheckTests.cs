using System.Buffers.Binary;
using BlockMount.Base;
using BlockMount.Block.Nodes;
using BlockMount.Formats;
using BlockMount.Formats.Qcow2;
using BlockMount.Formats.Qcow2.Metadata;
using BlockMount.Formats.Qcow2.OnDisk;
using BlockMount.TestSupport;
using BlockMount.TestSupport.Images;
using Xunit;

namespace BlockMount.Tests.Formats.Qcow2;

/// <summary>
/// Images whose tables point where they must not: whoever would overwrite metadata gets EIO, the image is marked corrupt and takes no more
/// changes, reads go on, and nothing but the corrupt bit was written (RELIABILITY S20, D4, D7).
/// </summary>
public sealed class OverlapCheckTests
{
    // An L2 table covers 128 clusters, so the disk has two.
    private const int Cluster = 1024;
    private const int ClusterBits = 10;
    private const int Size = 256 << 10;
    private const int GoodCluster = 9;
    private const int CorruptByte = 79;

    private readonly List<CorruptionReport> _reports = [];

    public enum Request
    {
        WritePart,
        WriteCluster,
        WriteElsewhere,
        Discard,
        ZeroMayUnmap,
        Read,
    }

    public static TheoryData<string, Request> Damages()
    {
        TheoryData<string, Request> data = [];
        foreach (string table in (string[])["refcount table", "refcount block", "L1", "L2", "other L2"])
        {
            data.Add($"data -> {table}", Request.WritePart);
            data.Add($"data -> {table}", Request.Discard);
            data.Add($"data -> {table}", Request.ZeroMayUnmap);
            data.Add($"shared data -> {table}", Request.WriteCluster);
            data.Add($"zero cluster -> {table}", Request.WriteCluster);
            data.Add($"compressed -> {table}", Request.WriteCluster);
        }

        foreach (string damage in (string[])
            [
                "L1 -> refcount table", "L1 -> refcount block", "L1 -> L1", "shared L1 -> refcount block", "L1 -> other L2", "L1 unaligned",
                "refcount table -> itself", "refcount table -> L1", "refcount table -> L2", "refcount table twice", "refcount table unaligned",
                "refcount of header 0", "refcount of L1 0", "refcount of L2 0", "refcount of refcount block 0", "refcount block past the end",
            ])
        {
            data.Add(damage, Request.WriteElsewhere);
        }

        data.Add("data unaligned", Request.WritePart);
        data.Add("data unaligned", Request.Read);
        data.Add("data unaligned", Request.Discard);
        data.Add("L1 unaligned", Request.Read);
        data.Add("L1 unaligned", Request.Discard);
        data.Add("shared L1 -> refcount block", Request.Discard);
        return data;
    }

    [Theory]
    [MemberData(nameof(Damages))]
    public async Task DamagedImage_IsNotWrittenTo_AndGoesOnServingReads(string damage, Request request)
    {
        MemoryFile file = await MakeAsync();
        Damage(new LiveImageSurgeon(file), damage);
        byte[] before = file.ToArray();
        bool goodIsReadable = !damage.StartsWith("L1", StringComparison.Ordinal) && !damage.StartsWith("shared L1", StringComparison.Ordinal);
        FormatNode node = await OpenAsync(file);
        BlockIOException error = await Assert.ThrowsAsync<BlockIOException>(() => RunAsync(node, request).AsTask());
        Assert.Equal(Errno.EIO, error.Errno);
        CorruptionReport report = Assert.Single(_reports);
        Assert.True(report.IsFatal);
        Assert.True(report.IsMarkedOnDisk);
        Assert.Contains("blockmount check -r all image", report.Hint, StringComparison.Ordinal);
        await AssertRefusesChangesAsync(node);
        if (goodIsReadable)
        {
            await AssertGoodClusterAsync(node);
        }

        await Assert.ThrowsAsync<BlockIOException>(() => node.DisposeAsync().AsTask());
        Assert.Single(_reports);
        AssertOnlyMarked(before, file);
        await AssertOpensReadOnlyOnlyAsync(file, goodIsReadable);
    }

    [Theory]
    [InlineData(MetadataKinds.None, "refcount block", false)]
    [InlineData(MetadataKinds.None, "refcount table", false)]
    [InlineData(MetadataKinds.Constant, "refcount block", false)]
    [InlineData(MetadataKinds.Constant, "refcount table", true)]
    [InlineData(MetadataKinds.Cached & ~MetadataKinds.ActiveL2, "L2", false)]
    [InlineData(MetadataKinds.ActiveL2, "L2", true)]
    public async Task OverlapCheckOption_ChoosesWhatIsProtected(MetadataKinds kinds, string table, bool found)
    {
        MemoryFile file = await MakeAsync();
        Damage(new LiveImageSurgeon(file), $"data -> {table}");
        FormatNode node = await OpenAsync(file, kinds);
        if (found)
        {
            await Assert.ThrowsAsync<BlockIOException>(() => RunAsync(node, Request.WritePart).AsTask());
        }
        else
        {
            await RunAsync(node, Request.WritePart);
            await node.DisposeAsync();
        }

        Assert.Equal(found ? 1 : 0, _reports.Count);
    }

    [Fact]
    public async Task RunThatReachesATable_IsWrittenUpToIt()
    {
        MemoryFile file = await MakeAsync();
        LiveImageSurgeon surgeon = new(file);
        // Clusters 0 and 1 stand side by side in the file; now the table stands right behind cluster 0.
        long table = surgeon.L2();
        surgeon.SetL2(0, (ulong)(table - Cluster) | LiveImageSurgeon.Copied);
        surgeon.SetL2(1, (ulong)table | LiveImageSurgeon.Copied);
        await using Qcow2Driver driver = await Qcow2Driver.OpenAsync(file.Reopen(), new Qcow2OpenOptions { OverlapCheck = MetadataKinds.ActiveL2 });
        WritePlan plan = await driver.PrepareWriteAsync(100, (2 * Cluster) - 100);
        Assert.Equal(Cluster - 100, plan.Length);
        Assert.Null(driver.Corruption);
    }

    [Fact]
    public async Task ReadOnlyImage_FoundDamaged_FailsTheRequestAndStaysAsItIs()
    {
        MemoryFile file = await MakeAsync();
        Damage(new LiveImageSurgeon(file), "data unaligned");
        byte[] before = file.ToArray();
        await using (FormatNode node = await OpenAsync(file, readOnly: true))
        {
            BlockIOException error = await Assert.ThrowsAsync<BlockIOException>(() => RunAsync(node, Request.Read).AsTask());
            Assert.Equal(Errno.EIO, error.Errno);
            await AssertGoodClusterAsync(node);
        }

        CorruptionReport report = Assert.Single(_reports);
        Assert.False(report.IsFatal);
        Assert.False(report.IsMarkedOnDisk);
        Assert.Equal(before, file.ToArray());
    }

    [Fact]
    public async Task Version2_HasNoCorruptBit_AndRefusesAllTheSame()
    {
        MemoryFile file = await MakeAsync(version: 2);
        Damage(new LiveImageSurgeon(file), "data -> refcount table");
        byte[] before = file.ToArray();
        FormatNode node = await OpenAsync(file);
        await Assert.ThrowsAsync<BlockIOException>(() => RunAsync(node, Request.WritePart).AsTask());
        Assert.False(Assert.Single(_reports).IsMarkedOnDisk);
        await AssertRefusesChangesAsync(node);
        await AssertGoodClusterAsync(node);
        Assert.Equal(before, file.ToArray());
    }

    [Fact]
    public async Task CorruptBitThatCannotBeWritten_ChangesNothingElse()
    {
        MemoryFile file = await MakeAsync();
        Damage(new LiveImageSurgeon(file), "data -> refcount table");
        FormatNode node = new("node0", "image", await Qcow2Driver.OpenAsync(new RefusingFile(file.Reopen()), Options(MetadataKinds.Cached, readOnly: false)), null);
        await Assert.ThrowsAsync<BlockIOException>(() => RunAsync(node, Request.WritePart).AsTask());
        Assert.False(Assert.Single(_reports).IsMarkedOnDisk);
        await AssertRefusesChangesAsync(node);
        await AssertGoodClusterAsync(node);
    }

    // A write that was prepared before the damage was found must not be linked afterwards, and must not keep others waiting.
    [Fact]
    public async Task AllocationPendingWhenDamageIsFound_IsAbandoned()
    {
        MemoryFile file = await MakeAsync();
        Damage(new LiveImageSurgeon(file), "data -> refcount table");
        Qcow2Driver driver = await Qcow2Driver.OpenAsync(file.Reopen(), Options(MetadataKinds.Cached, readOnly: false));
        WritePlan pending = await driver.PrepareWriteAsync(20 * Cluster, Cluster);
        await Assert.ThrowsAsync<BlockIOException>(() => driver.PrepareWriteAsync(0, 100).AsTask());
        await Assert.ThrowsAsync<BlockIOException>(() => driver.CommitWriteAsync(pending.Allocation!).AsTask());
        await driver.AbandonWriteAsync(pending.Allocation!);
        Mapping mapping = await driver.MapAsync(20 * Cluster, Cluster, MapPurpose.Transfer);
        Assert.Equal(MappingKind.Backing, mapping.Kind);
    }

    [RequiresTheory(Needs.None, "qemu-img", "qemu-io")]
    [InlineData("snapshot table", MetadataKinds.Cached, true)]
    [InlineData("inactive L1", MetadataKinds.Cached, true)]
    [InlineData("inactive L1", MetadataKinds.Constant, false)]
    [InlineData("inactive L2", MetadataKinds.Cached, false)]
    [InlineData("inactive L2", MetadataKinds.All, true)]
    [InlineData("bitmap directory", MetadataKinds.Cached, true)]
    [InlineData("bitmap directory", MetadataKinds.Cached & ~MetadataKinds.BitmapDirectory, false)]
    public async Task TablesOfSnapshotsAndBitmaps_AreProtected(string table, MetadataKinds kinds, bool found)
    {
        using ScratchFolder folder = new();
        string path = folder["image"];
        await QemuImg.RunAsync("create", "-q", "-f", "qcow2", "-o", "cluster_size=1k", path, "256k");
        await QemuImg.IoAsync(path, "write -P 1 0 40k");
        await QemuImg.RunAsync("snapshot", "-c", "before", path);
        await QemuImg.IoAsync(path, "write -P 2 0 40k");
        await QemuImg.RunAsync("bitmap", "--add", path, "b0");
        MemoryFile file = await QemuImg.LoadAsync(path);
        LiveImageSurgeon surgeon = new(file);
        long target = table switch
        {
            "snapshot table" => surgeon.SnapshotTable,
            "inactive L1" => surgeon.SnapshotL1,
            "inactive L2" => surgeon.SnapshotL2,
            _ => BinaryPrimitives.ReadInt64BigEndian(surgeon.Extension(HeaderExtensionType.Bitmaps).AsSpan(16)),
        };
        surgeon.SetL2(0, (ulong)target | LiveImageSurgeon.Copied);
        FormatNode node = await OpenAsync(file, kinds);
        if (found)
        {
            await Assert.ThrowsAsync<BlockIOException>(() => RunAsync(node, Request.WritePart).AsTask());
            Assert.Equal(target, Assert.Single(_reports).HostOffset);
        }
        else
        {
            await RunAsync(node, Request.WritePart);
            Assert.Empty(_reports);
        }
    }

    // Undamaged images with every kind of table, under the strictest check: nothing is reported.
    [RequiresFact(Needs.None, "qemu-img", "qemu-io")]
    public async Task GoodImage_UnderOverlapCheckAll_IsWrittenAndStaysClean()
    {
        using ScratchFolder folder = new();
        string path = folder["image"];
        await QemuImg.RunAsync("create", "-q", "-f", "qcow2", "-o", "cluster_size=512", path, "1M");
        await QemuImg.IoAsync(path, "write -P 1 0 200k");
        await QemuImg.RunAsync("snapshot", "-c", "one", path);
        await QemuImg.IoAsync(path, "write -P 2 100k 200k");
        await QemuImg.RunAsync("snapshot", "-c", "two", path);
        MemoryFile file = await QemuImg.LoadAsync(path);
        await using (FormatNode node = await OpenAsync(file, MetadataKinds.All))
        {
            Random random = new(1);
            for (int i = 0; i < 300; i++)
            {
                byte[] data = new byte[1 + random.Next(5000)];
                random.NextBytes(data);
                await node.WriteAsync(random.Next((1 << 20) - data.Length), data);
                if (i % 10 == 0)
                {
                    await node.DiscardAsync(random.Next(500 << 10), 100 << 10);
                    await node.FlushAsync();
                }
            }

            await node.ResizeAsync(16 << 20);
        }

        Assert.Empty(_reports);
        await QemuImg.SaveAsync(path, file.ToArray());
        QemuImg.Verdict verdict = await QemuImg.CheckAsync(path);
        Assert.True(verdict.ExitCode == 0, verdict.Text);
    }

    private static void Damage(LiveImageSurgeon image, string damage)
    {
        string[] parts = damage.Split(" -> ");
        ulong target = parts.Length == 2 ? (ulong)Target(image, parts[1]) : 0;
        switch (parts[0])
        {
            case "data":
                image.SetL2(0, target | LiveImageSurgeon.Copied);
                break;
            case "shared data":
                image.SetL2(0, target);
                break;
            case "zero cluster":
                image.SetL2(0, target | LiveImageSurgeon.Copied | 1);
                break;
            case "compressed":
                image.SetL2(0, target | LiveImageSurgeon.Compressed);
                break;
            case "data unaligned":
                image.SetL2(0, ((ulong)image.Data(1) + 512) | LiveImageSurgeon.Copied);
                break;
            case "L1":
                image.SetL1(0, target | LiveImageSurgeon.Copied);
                break;
            case "shared L1":
                image.SetL1(0, target);
                break;
            case "L1 unaligned":
                image.SetL1(0, ((ulong)image.L2() + 512) | LiveImageSurgeon.Copied);
                break;
            case "refcount table":
                image.SetRefcountTable(0, target);
                break;
            case "refcount table twice":
                image.SetRefcountTable(1, (ulong)image.RefcountBlock());
                break;
            case "refcount table unaligned":
                image.SetRefcountTable(0, (ulong)image.RefcountBlock() + 512);
                break;
            case "refcount block past the end":
                image.SetRefcountTable(0, 1 << 30);
                break;
            default:
                image.SetRefcount(Target(image, damage["refcount of ".Length..^2]), 0);
                break;
        }
    }

    private static long Target(LiveImageSurgeon image, string name) => name switch
    {
        "header" => 0,
        "refcount table" or "itself" => image.RefcountTable,
        "refcount block" => image.RefcountBlock(),
        "L1" => image.L1,
        "L2" => image.L2(),
        "other L2" => image.L2(1),
        _ => throw new ArgumentException(name),
    };

    private static async ValueTask RunAsync(FormatNode node, Request request)
    {
        byte[] data = new byte[Cluster];
        data.AsSpan().Fill(0x55);
        switch (request)
        {
            case Request.WritePart:
                await node.WriteAsync(100, data.AsMemory(0, 200));
                break;
            case Request.WriteCluster:
                await node.WriteAsync(0, data);
                break;
            case Request.WriteElsewhere:
                await node.WriteAsync(30 * Cluster, data);
                break;
            case Request.Discard:
                await node.DiscardAsync(0, Cluster);
                break;
            case Request.ZeroMayUnmap:
                await node.ZeroAsync(0, Cluster, ZeroFlags.MayUnmap);
                break;
            default:
                await node.ReadAsync(0, data);
                break;
        }
    }

    private static async Task AssertRefusesChangesAsync(FormatNode node)
    {
        byte[] data = new byte[Cluster];
        Func<ValueTask>[] changes =
        [
            () => node.WriteAsync(GoodCluster * Cluster, data),
            () => node.WriteAsync(200 * Cluster, data),
            () => node.ZeroAsync(GoodCluster * Cluster, Cluster, ZeroFlags.None),
            () => node.DiscardAsync(GoodCluster * Cluster, Cluster),
            () => node.ResizeAsync(2 * Size),
            node.FlushAsync,
        ];
        foreach (Func<ValueTask> change in changes)
        {
            BlockIOException error = await Assert.ThrowsAsync<BlockIOException>(() => change().AsTask());
            Assert.Equal(Errno.EIO, error.Errno);
            Assert.Contains("is damaged", error.Message, StringComparison.Ordinal);
            Assert.Contains("blockmount check -r all", error.Hint, StringComparison.Ordinal);
        }
    }

    private static async Task AssertGoodClusterAsync(FormatNode node)
    {
        byte[] read = new byte[Cluster];
        await node.ReadAsync(GoodCluster * Cluster, read);
        Assert.All(read, value => Assert.Equal(GoodCluster, value));
    }

    private static void AssertOnlyMarked(byte[] before, MemoryFile file)
    {
        byte[] after = file.ToArray();
        Assert.Equal(before[CorruptByte] | 2, after[CorruptByte]);
        before[CorruptByte] = after[CorruptByte];
        // A write that was not linked may have left its data behind the end.
        Assert.Equal(before, after.AsSpan(0, before.Length));
    }

    private async Task AssertOpensReadOnlyOnlyAsync(MemoryFile file, bool goodIsReadable)
    {
        ImageFormatException refusal = await Assert.ThrowsAsync<ImageFormatException>(() => OpenAsync(file));
        Assert.Contains("qcow2: Image is corrupt; cannot be opened read/write", refusal.Message, StringComparison.Ordinal);
        await using FormatNode node = await OpenAsync(file, readOnly: true);
        if (goodIsReadable)
        {
            await AssertGoodClusterAsync(node);
        }
    }

    // Clusters 0 to 15 hold their number; the second L2 table holds one cluster.
    private static async Task<MemoryFile> MakeAsync(int version = 3)
    {
        ImageGeometry geometry = new() { ClusterBits = ClusterBits, Size = Size, Version = version };
        MemoryFile file = new("image", readOnly: false, EmptyImage.Create(geometry));
        await using FormatNode node = new("node0", "image", await Qcow2Driver.OpenAsync(file.Reopen(), new Qcow2OpenOptions()), null);
        for (int i = 0; i < 16; i++)
        {
            byte[] data = new byte[Cluster];
            data.AsSpan().Fill((byte)i);
            await node.WriteAsync(i * Cluster, data);
        }

        await node.WriteAsync(130 * Cluster, new byte[Cluster]);
        return file;
    }

    private async Task<FormatNode> OpenAsync(MemoryFile file, MetadataKinds kinds = MetadataKinds.Cached, bool readOnly = false) =>
        new("node0", "image", await Qcow2Driver.OpenAsync(file.Reopen(readOnly), Options(kinds, readOnly)), backing: null);

    private Qcow2OpenOptions Options(MetadataKinds kinds, bool readOnly) => new()
    {
        ReadOnly = readOnly,
        OverlapCheck = kinds,
        OnCorruption = _reports.Add,
    };
}
