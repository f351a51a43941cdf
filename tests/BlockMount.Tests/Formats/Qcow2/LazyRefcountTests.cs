using BlockMount.Block.Nodes;
using BlockMount.Formats;
using BlockMount.Formats.Qcow2;
using BlockMount.Formats.Qcow2.Check;
using BlockMount.Formats.Qcow2.OnDisk;
using BlockMount.Formats.Qcow2.Repair;
using BlockMount.TestSupport;
using BlockMount.TestSupport.Images;
using Xunit;

namespace BlockMount.Tests.Formats.Qcow2;

/// <summary>Lazy refcounts: the dirty bit comes before the first table that needs a missing refcount, and goes last at a clean close (F15, F18).</summary>
public sealed class LazyRefcountTests
{
    private const int Cluster = 1024;

    private static readonly ImageGeometry s_geometry = new() { ClusterBits = 10, Size = 256 << 10 };

    [Fact]
    public async Task LazyWriter_SetsTheDirtyBitWithItsFirstTables_AndClearsItAtTheClose()
    {
        MemoryFile file = Empty();
        FormatNode node = await OpenAsync(file, new Qcow2OpenOptions { LazyRefcounts = true });
        await node.FlushAsync();
        Assert.False(IsDirty(file));
        await node.WriteAsync(0, new byte[5 * Cluster]);
        await node.FlushAsync();
        Assert.True(IsDirty(file));
        // The gain: tables are durable, refcounts are not even written.
        CheckReport crashed = await ConsistencyCheck.RunAsync(file.Reopen(readOnly: true));
        Assert.Contains(crashed.Findings, finding => finding.Kind == CheckFindingKind.RefcountTooLow);
        await node.DisposeAsync();
        Assert.False(IsDirty(file));
        await AssertCleanAsync(file);
    }

    [Theory]
    [InlineData(true, null, true)]
    [InlineData(true, false, false)]
    [InlineData(false, null, false)]
    [InlineData(false, true, true)]
    public async Task OptionBeatsTheImagesBit(bool inImage, bool? option, bool lazy)
    {
        MemoryFile file = new("image");
        await Qcow2Create.CreateAsync(file, new Qcow2CreateOptions { Size = 1 << 20, ClusterSize = Cluster, LazyRefcounts = inImage });
        await using FormatNode node = await OpenAsync(file, new Qcow2OpenOptions { LazyRefcounts = option });
        await node.WriteAsync(0, new byte[Cluster]);
        await node.FlushAsync();
        Assert.Equal(lazy, IsDirty(file));
    }

    [Fact]
    public async Task ManyAllocations_WithATinyCache_WriteRefcountsAsTheCacheAsksForIt()
    {
        MemoryFile file = Empty(new ImageGeometry { ClusterBits = 9, RefcountOrder = 6, Size = 1 << 20 });
        byte[] model = new byte[1 << 20];
        new Random(1).NextBytes(model);
        await using (FormatNode node = await OpenAsync(file, new Qcow2OpenOptions { LazyRefcounts = true, CacheBytes = 1 }))
        {
            for (int i = 0; i < model.Length; i += 4096)
            {
                await node.WriteAsync(i, model.AsMemory(i, 4096));
            }

            Assert.True(IsDirty(file));
        }

        Assert.False(IsDirty(file));
        await AssertCleanAsync(file);
        byte[] read = new byte[model.Length];
        await using FormatNode again = await OpenAsync(file, new Qcow2OpenOptions { ReadOnly = true });
        await again.ReadAsync(0, read);
        Assert.Equal(model, read);
    }

    [Fact]
    public async Task DirtyImage_WithoutARepair_IsRefusedForWritingAndLeftAlone()
    {
        MemoryFile file = await CrashedAsync();
        byte[] before = file.ToArray();
        ImageFormatException refusal = await Assert.ThrowsAsync<ImageFormatException>(() => OpenAsync(file, new Qcow2OpenOptions { RepairDirty = null }));
        Assert.Contains("marked dirty", refusal.Message, StringComparison.Ordinal);
        await using (FormatNode node = await OpenAsync(file, new Qcow2OpenOptions { ReadOnly = true }))
        {
            await AssertContentAsync(node);
        }

        Assert.Equal(before, file.ToArray());
    }

    [Fact]
    public async Task DirtyImage_IsRepairedOnce_BeforeItsTablesAreLoaded()
    {
        MemoryFile file = await CrashedAsync();
        int repairs = 0;
        Qcow2OpenOptions options = new()
        {
            RepairDirty = async dirty =>
            {
                repairs++;
                await DirtyImage.RepairAsync(dirty);
            },
        };
        await using (FormatNode node = await OpenAsync(file, options))
        {
            await AssertContentAsync(node);
            // A new cluster must not be one that the tables use: with the stale refcounts it would be.
            await node.WriteAsync(100 * Cluster, new byte[20 * Cluster]);
            await AssertContentAsync(node);
        }

        Assert.Equal(1, repairs);
        await AssertCleanAsync(file);
        await using FormatNode again = await OpenAsync(file, options);
        Assert.Equal(1, repairs);
    }

    // Nobody was asked whether data may be given up, so what does not come from lazy refcounts is not touched.
    [Fact]
    public async Task DirtyImage_WithOtherDamage_IsRefusedAndLeftAlone()
    {
        MemoryFile file = await CrashedAsync();
        new LiveImageSurgeon(file).SetL2(3, ((ulong)new LiveImageSurgeon(file).Data(4) + 512) | LiveImageSurgeon.Copied);
        byte[] before = file.ToArray();
        ImageFormatException refusal = await Assert.ThrowsAsync<ImageFormatException>(() => OpenAsync(file, new Qcow2OpenOptions()));
        Assert.Contains("more than the stale refcounts", refusal.Message, StringComparison.Ordinal);
        Assert.Contains("blockmount check -r all", refusal.Hint, StringComparison.Ordinal);
        Assert.Equal(before, file.ToArray());
    }

    [RequiresFact(Needs.None, "qemu-img", "qemu-io")]
    public async Task DirtyImageOfQemu_IsRepairedByUs()
    {
        using ScratchFolder folder = new();
        string path = folder["image"];
        await QemuImg.RunAsync("create", "-q", "-f", "qcow2", "-o", "cluster_size=1k,lazy_refcounts=on", path, "256k");
        // As QEMU's own test of lazy refcounts: the process dies after the flush.
        _ = await ToolProcess.RunAsync(TimeSpan.FromMinutes(1), "qemu-io", "-f", "qcow2", "-c", "write -P 90 0 10k", "-c", "flush", "-c", "sigraise 9", path);
        MemoryFile file = await QemuImg.LoadAsync(path);
        Assert.True(IsDirty(file));
        await using (FormatNode node = await OpenAsync(file, new Qcow2OpenOptions()))
        {
            await AssertContentAsync(node);
            await node.WriteAsync(100 * Cluster, new byte[20 * Cluster]);
        }

        await QemuImg.SaveAsync(path, file.ToArray());
        QemuImg.Verdict verdict = await QemuImg.CheckAsync(path);
        Assert.True(verdict.ExitCode == 0, verdict.Text);
    }

    [Fact]
    public async Task RepairThatLeavesTheImageDirty_IsARefusal()
    {
        MemoryFile file = await CrashedAsync();
        await Assert.ThrowsAsync<ImageFormatException>(
            () => OpenAsync(file, new Qcow2OpenOptions { RepairDirty = _ => ValueTask.CompletedTask }));
    }

    [Fact]
    public async Task CorruptAndDirtyImage_IsNotRepairedOnTheWay()
    {
        MemoryFile file = await CrashedAsync();
        byte[] content = file.ToArray();
        content[79] |= 2;
        MemoryFile corrupt = new("image", readOnly: false, content);
        ImageFormatException refusal = await Assert.ThrowsAsync<ImageFormatException>(
            () => OpenAsync(corrupt, new Qcow2OpenOptions { RepairDirty = _ => throw new InvalidOperationException("repaired") }));
        Assert.Contains("Image is corrupt", refusal.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Version2_CannotBeLazy()
    {
        MemoryFile file = Empty(s_geometry with { Version = 2 });
        await Assert.ThrowsAsync<ImageFormatException>(() => OpenAsync(file, new Qcow2OpenOptions { LazyRefcounts = true }));
        // Nothing is written, so nothing is asked of the format.
        await using FormatNode node = await OpenAsync(file, new Qcow2OpenOptions { LazyRefcounts = true, ReadOnly = true });
    }

    [RequiresFact(Needs.None, "qemu-img", "qemu-io")]
    public async Task DirtyImage_IsRepairedByQemu_WithoutLosingAnything()
    {
        using ScratchFolder folder = new();
        MemoryFile file = await CrashedAsync();
        string path = folder["image"];
        await QemuImg.SaveAsync(path, file.ToArray());
        // Opening it for writing repairs it.
        await QemuImg.IoAsync(path, "write -P 9 200k 1k");
        QemuImg.Verdict verdict = await QemuImg.CheckAsync(path);
        Assert.True(verdict.ExitCode == 0, verdict.Text);
        MemoryFile repaired = await QemuImg.LoadAsync(path);
        await using FormatNode node = await OpenAsync(repaired, new Qcow2OpenOptions());
        await AssertContentAsync(node);
    }

    private static MemoryFile Empty(ImageGeometry? geometry = null) => new("image", readOnly: false, EmptyImage.Create(geometry ?? s_geometry));

    // As after a crash: the tables are flushed, the refcounts and the clean mark are not.
    private static async Task<MemoryFile> CrashedAsync()
    {
        MemoryFile file = Empty();
        FormatNode node = await OpenAsync(file, new Qcow2OpenOptions { LazyRefcounts = true });
        byte[] data = new byte[10 * Cluster];
        data.AsSpan().Fill(0x5a);
        await node.WriteAsync(0, data);
        await node.FlushAsync();
        return new MemoryFile("image", readOnly: false, file.Content);
    }

    private static async Task AssertContentAsync(FormatNode node)
    {
        byte[] read = new byte[10 * Cluster];
        await node.ReadAsync(0, read);
        Assert.All(read, value => Assert.Equal(0x5a, value));
    }

    private static async Task AssertCleanAsync(MemoryFile file)
    {
        CheckReport report = await ConsistencyCheck.RunAsync(file.Reopen(readOnly: true));
        Assert.True(report.IsClean, report.ToString());
    }

    private static bool IsDirty(MemoryFile file) => (new LiveImageSurgeon(file).Incompatible & FeatureBits.Dirty) != 0;

    private static async Task<FormatNode> OpenAsync(MemoryFile file, Qcow2OpenOptions options) =>
        new("node0", "image", await Qcow2Driver.OpenAsync(file.Reopen(options.ReadOnly), options), backing: null);
}
