using System.Buffers.Binary;
using BlockMount.Formats;
using BlockMount.Formats.Qcow2.Check;
using BlockMount.TestSupport;
using Xunit;

namespace BlockMount.Tests.Check;

/// <summary>The verdicts of <see cref="ConsistencyCheck"/> equal those of qemu-img check, on good images and on broken ones.</summary>
public sealed class ConsistencyCheckTests : IDisposable
{
    private const long OffsetMask = 0x00fffffffffffe00;

    private readonly ScratchFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [RequiresTheory(Needs.None, "qemu-img", "qemu-io")]
    [InlineData("cluster_size=512,refcount_bits=1")]
    [InlineData("cluster_size=512,refcount_bits=2")]
    [InlineData("cluster_size=1k,refcount_bits=4")]
    [InlineData("cluster_size=2k,refcount_bits=8")]
    [InlineData("cluster_size=4k,compat=0.10")]
    [InlineData("cluster_size=512,refcount_bits=32")]
    [InlineData("cluster_size=512,refcount_bits=64")]
    [InlineData("cluster_size=64k")]
    [InlineData("cluster_size=2M")]
    [InlineData("cluster_size=512,preallocation=metadata")]
    [InlineData("cluster_size=16k,extended_l2=on")]
    [InlineData("cluster_size=4k,lazy_refcounts=on")]
    public async Task GoodImage_OfEveryGeometry_IsClean(string options)
    {
        string path = await MakeAsync(options, "2M", "write -P 1 0 100k", "write -P 2 777k 300k", "write -P 3 0 64k");
        await SameVerdictAsync(path, expectClean: true);
    }

    [RequiresFact(Needs.None, "qemu-img", "qemu-io")]
    public async Task GoodImage_WithZeroAndDiscardedClusters_IsClean()
    {
        string path = await MakeAsync("cluster_size=4k", "2M", "write -P 1 0 256k", "write -z 16k 64k", "write -z -u 100k 64k", "discard 200k 40k");
        await SameVerdictAsync(path, expectClean: true);
    }

    [RequiresFact(Needs.None, "qemu-img", "qemu-io")]
    public async Task GoodImage_WithCompressedClusters_IsCleanAndCountsThem()
    {
        string source = await MakeAsync("cluster_size=64k", "2M", "write -P 1 0 300k", "write -P 7 1M 256k");
        string path = _folder["compressed.qcow2"];
        await QemuImg.RunAsync("convert", "-c", "-O", "qcow2", "-o", "cluster_size=4k", source, path);
        CheckReport report = await SameVerdictAsync(path, expectClean: true);
        Assert.Equal((300 + 256) / 4, report.CompressedClusters);
        Assert.Equal(report.CompressedClusters, report.AllocatedClusters);
    }

    [RequiresTheory(Needs.None, "qemu-img", "qemu-io")]
    [InlineData("cluster_size=512,refcount_bits=8")]
    [InlineData("cluster_size=64k")]
    public async Task GoodImage_WithSnapshotsAndBitmaps_IsClean(string options)
    {
        string path = await MakeAsync(options, "2M", "write -P 1 0 256k");
        await QemuImg.RunAsync("snapshot", "-c", "first", path);
        await QemuImg.IoAsync(path, "write -P 2 64k 128k");
        await QemuImg.RunAsync("snapshot", "-c", "a second one", path);
        await QemuImg.RunAsync("bitmap", "--add", "-f", "qcow2", path, "history");
        await QemuImg.RunAsync("bitmap", "--add", "-g", "512", "-f", "qcow2", path, "another");
        await QemuImg.IoAsync(path, "write -P 3 128k 512k");
        CheckReport report = await SameVerdictAsync(path, expectClean: true);
        Assert.True(report.AllocatedClusters > 0);
    }

    [RequiresFact(Needs.None, "qemu-img", "qemu-io")]
    public async Task LeakedCluster_IsALeakAndNoCorruption()
    {
        string path = await MakeAsync("cluster_size=4k", "1M", "write 0 64k");
        Poke(path, image => image.ClearL2Entry(3));
        CheckReport report = await SameVerdictAsync(path);
        Assert.Equal((0, 1), (report.Corruptions, report.Leaks));
        Assert.Equal(CheckFindingKind.Leak, Assert.Single(report.Findings).Kind);
    }

    [RequiresFact(Needs.None, "qemu-img", "qemu-io")]
    public async Task RefcountTooLow_IsCorruption()
    {
        string path = await MakeAsync("cluster_size=4k", "1M", "write 0 64k");
        Poke(path, image => image.SetRefcount(image.L2Entry(5) & OffsetMask, 0));
        CheckReport report = await SameVerdictAsync(path);
        Assert.Contains(report.Findings, finding => finding.Kind == CheckFindingKind.RefcountTooLow);
    }

    [RequiresFact(Needs.None, "qemu-img", "qemu-io")]
    public async Task CopiedFlagMissing_IsCorruption()
    {
        string path = await MakeAsync("cluster_size=4k", "1M", "write 0 64k");
        Poke(path, image => image.SetL2Entry(2, image.L2Entry(2) & OffsetMask));
        CheckReport report = await SameVerdictAsync(path);
        Assert.Equal(CheckFindingKind.CopiedFlag, Assert.Single(report.Findings).Kind);
    }

    [RequiresFact(Needs.None, "qemu-img", "qemu-io")]
    public async Task CopiedFlagOfL1EntryMissing_IsCorruption()
    {
        string path = await MakeAsync("cluster_size=4k", "1M", "write 0 64k");
        Poke(path, image => image.SetL1Entry(0, image.L1Entry(0) & OffsetMask));
        CheckReport report = await SameVerdictAsync(path);
        Assert.Equal(CheckFindingKind.CopiedFlag, Assert.Single(report.Findings).Kind);
    }

    [RequiresFact(Needs.None, "qemu-img", "qemu-io")]
    public async Task SharedCluster_IsCorruption()
    {
        string path = await MakeAsync("cluster_size=4k", "1M", "write 0 64k");
        Poke(path, image => image.SetL2Entry(2, image.L2Entry(1)));
        CheckReport report = await SameVerdictAsync(path);
        Assert.Contains(report.Findings, finding => finding.Kind == CheckFindingKind.Overlap);
    }

    [RequiresFact(Needs.None, "qemu-img", "qemu-io")]
    public async Task ReferenceToTheHeader_IsCorruption()
    {
        string path = await MakeAsync("cluster_size=4k", "1M", "write 0 64k");
        Poke(path, image => image.SetL2Entry(2, image.RefcountTableOffset | long.MinValue));
        CheckReport report = await SameVerdictAsync(path);
        Assert.Contains(report.Findings, finding => finding.Kind == CheckFindingKind.Overlap);
    }

    [RequiresTheory(Needs.None, "qemu-img", "qemu-io")]
    [InlineData(0x40000000L, CheckFindingKind.OutsideFile)]
    [InlineData(0x5200L, CheckFindingKind.Misaligned)]
    public async Task BadOffset_IsCorruption(long offset, CheckFindingKind expected)
    {
        string path = await MakeAsync("cluster_size=4k", "1M", "write 0 64k");
        Poke(path, image => image.SetL2Entry(2, offset | long.MinValue));
        CheckReport report = await SameVerdictAsync(path);
        Assert.Contains(report.Findings, finding => finding.Kind == expected);
    }

    [RequiresFact(Needs.None, "qemu-img", "qemu-io")]
    public async Task ReservedBitInL1AndL2_AreTwoCorruptions()
    {
        string path = await MakeAsync("cluster_size=4k", "1M", "write 0 64k");
        Poke(path, image =>
        {
            image.SetL2Entry(2, image.L2Entry(2) | 2);
            image.SetL1Entry(0, image.L1Entry(0) | 1);
        });
        CheckReport report = await SameVerdictAsync(path);
        Assert.Equal(2, report.Findings.Count(finding => finding.Kind == CheckFindingKind.ReservedBits));
    }

    [RequiresFact(Needs.None, "qemu-img", "qemu-io")]
    public async Task TruncatedFile_IsCorruption()
    {
        string path = await MakeAsync("cluster_size=4k", "1M", "write 0 64k");
        await using (FileStream stream = new(path, FileMode.Open))
        {
            stream.SetLength(stream.Length - 8192);
        }

        CheckReport report = await SameVerdictAsync(path);
        Assert.Contains(report.Findings, finding => finding.Kind == CheckFindingKind.OutsideFile);
    }

    [Fact]
    public async Task NoImage_IsRefusedWithTheReason()
    {
        await using MemoryFile file = new("text", readOnly: true, new byte[4096]);
        ImageFormatException error = await Assert.ThrowsAsync<ImageFormatException>(async () => await ConsistencyCheck.RunAsync(file));
        Assert.Contains("not a qcow2 image", error.Message, StringComparison.Ordinal);
    }

    private async Task<string> MakeAsync(string options, string size, params string[] commands)
    {
        string path = _folder["image.qcow2"];
        await QemuImg.RunAsync("create", "-f", "qcow2", "-o", options, path, size);
        await QemuImg.IoAsync(path, commands);
        return path;
    }

    private static async Task<CheckReport> SameVerdictAsync(string path, bool expectClean = false)
    {
        await using MemoryFile file = await QemuImg.LoadAsync(path, readOnly: true);
        CheckReport ours = await ConsistencyCheck.RunAsync(file);
        QemuImg.Verdict theirs = await QemuImg.CheckAsync(path);
        string both = $"ours: {ours}\ntheirs: {theirs}";
        Assert.True(theirs.Corruptions > 0 == ours.Corruptions > 0, both);
        // Of a file that was cut off, qemu-img does not count what lies past the end.
        Assert.True(theirs.Leaks == ours.Leaks || ours.Corruptions > 0, both);
        Assert.True(!expectClean || ours.IsClean, both);
        return ours;
    }

    private static void Poke(string path, Action<PokedImage> change)
    {
        PokedImage image = new(File.ReadAllBytes(path));
        change(image);
        File.WriteAllBytes(path, image.Bytes);
    }

    /// <summary>Changes single fields of an image with 16-bit refcounts in one block and one L2 table.</summary>
    private sealed class PokedImage(byte[] bytes)
    {
        internal byte[] Bytes { get; } = bytes;

        internal long RefcountTableOffset => Read(48);

        internal long L1Entry(int index) => Read(Read(40) + (index * 8));

        internal void SetL1Entry(int index, long value) => Write(Read(40) + (index * 8), value);

        internal long L2Entry(int index) => Read((L1Entry(0) & OffsetMask) + (index * 8));

        internal void SetL2Entry(int index, long value) => Write((L1Entry(0) & OffsetMask) + (index * 8), value);

        internal void ClearL2Entry(int index) => SetL2Entry(index, 0);

        internal void SetRefcount(long hostOffset, ushort value)
        {
            int clusterBits = BinaryPrimitives.ReadInt32BigEndian(Bytes.AsSpan(20));
            long block = Read(RefcountTableOffset);
            BinaryPrimitives.WriteUInt16BigEndian(Bytes.AsSpan((int)(block + ((hostOffset >> clusterBits) * 2))), value);
        }

        private long Read(long offset) => BinaryPrimitives.ReadInt64BigEndian(Bytes.AsSpan((int)offset));

        private void Write(long offset, long value) => BinaryPrimitives.WriteInt64BigEndian(Bytes.AsSpan((int)offset), value);
    }
}
