using System.Security.Cryptography;
using BlockMount.TestSupport;
using Xunit;

namespace BlockMount.Interop.Serving;

/// <summary>Proves that what cannot be served is refused with a clear error, a non-zero exit, and nothing changed on disk.</summary>
public sealed class BadInputTests : ServedImageFixture
{
    [RequiresTheory(Needs.Release | Needs.Fuse, "qemu-img")]
    [InlineData(0)]
    [InlineData(3)]
    [InlineData(4)]
    [InlineData(8)]
    [InlineData(20)]
    [InlineData(24)]
    [InlineData(32)]
    [InlineData(40)]
    [InlineData(48)]
    [InlineData(60)]
    [InlineData(71)]
    [InlineData(72)]
    [InlineData(88)]
    [InlineData(96)]
    [InlineData(100)]
    [InlineData(103)]
    [InlineData(111)]
    public async Task Header_TruncatedAtAnyField_IsRefused(int length)
    {
        string image = await CreateAsync("a.qcow2", "cluster_size=65536", 1 << 20);
        File.WriteAllBytes(image, File.ReadAllBytes(image)[..length]);
        await RefusedAsync(image, ["qcow2"], "-f", "qcow2");
    }

    [RequiresTheory(Needs.Release | Needs.Fuse, "qemu-img")]
    [InlineData("L1 table", 40, 0x7f_ffff_ffff_0000)]
    [InlineData("L1 table", 40, 0x10001)]
    [InlineData("refcount table", 48, 0x7f_ffff_ffff_0000)]
    [InlineData("refcount table", 48, 1)]
    [InlineData("incompatible feature", 72, 1L << 40)]
    [InlineData("size", 24, long.MaxValue)]
    [InlineData("backing", 8, 0x7fff_0000)]
    public async Task Header_FieldOutOfRange_IsRefusedByName(string word, int fieldOffset, long value)
    {
        string image = await CreateAsync("a.qcow2", "cluster_size=65536", 1 << 20);
        byte[] content = File.ReadAllBytes(image);
        System.Buffers.Binary.BinaryPrimitives.WriteInt64BigEndian(content.AsSpan(fieldOffset), value);
        if (fieldOffset == 8)
        {
            content[19] = 10;
        }

        File.WriteAllBytes(image, content);
        await RefusedAsync(image, [word]);
    }

    [RequiresFact(Needs.Release | Needs.Fuse, "qemu-img")]
    public async Task L2Entry_PastTheEndOfTheFile_IsNoCrash()
    {
        string image = await CreateAsync("a.qcow2", "cluster_size=65536", 1 << 20);
        await QemuImg.IoAsync(image, "write -P 1 0 64k");
        byte[] content = File.ReadAllBytes(image);
        int l1 = (int)System.Buffers.Binary.BinaryPrimitives.ReadInt64BigEndian(content.AsSpan(40));
        int l2 = (int)(System.Buffers.Binary.BinaryPrimitives.ReadInt64BigEndian(content.AsSpan(l1)) & 0x00ff_ffff_ffff_fe00);
        // Not aligned to a cluster: that place cannot be read, everything else can.
        System.Buffers.Binary.BinaryPrimitives.WriteUInt64BigEndian(content.AsSpan(l2), 0x8000_0000_0000_0000 | 0x50200);
        File.WriteAllBytes(image, content);
        string disk = await MountAsync(image, "--read-only");
        await using FileStream file = new(disk, FileMode.Open, FileAccess.Read, FileShare.ReadWrite, bufferSize: 0);
        byte[] buffer = new byte[4096];
        Assert.Throws<IOException>(() => RandomAccess.Read(file.SafeFileHandle, buffer, 0));
        Assert.Equal(4096, RandomAccess.Read(file.SafeFileHandle, buffer, 65536));
        Assert.True(!buffer.AsSpan().ContainsAnyExcept((byte)0));
    }

    [RequiresFact(Needs.Release | Needs.Fuse, "qemu-img")]
    public async Task Chain_Loop_IsRefused()
    {
        string first = await CreateAsync("a.qcow2", "cluster_size=65536", 1 << 20);
        string second = await CreateAsync("b.qcow2", "cluster_size=65536", 1 << 20, first, "qcow2");
        await QemuImg.RunAsync("rebase", "-u", "-b", second, "-F", "qcow2", first);
        await RefusedAsync(second, ["loop"]);
    }

    [RequiresFact(Needs.Release | Needs.Fuse, "qemu-img")]
    public async Task Base_Missing_IsNamedWithWhoAsksForIt()
    {
        string below = await CreateAsync("base.qcow2", "cluster_size=65536", 1 << 20);
        string image = await CreateAsync("a.qcow2", "cluster_size=65536", 1 << 20, below, "qcow2");
        File.Delete(below);
        await RefusedAsync(image, ["base.qcow2", "a.qcow2", "No such file"]);
    }

    [RequiresFact(Needs.Release | Needs.Fuse, "qemu-img")]
    public async Task Base_IsADirectory_IsRefused()
    {
        string image = await CreateAsync("a.qcow2", "cluster_size=65536", 1 << 20);
        Directory.CreateDirectory(this["folder"]);
        await QemuImg.RunAsync("rebase", "-u", "-b", this["folder"], "-F", "raw", image);
        await RefusedAsync(image, ["folder", "directory"]);
    }

    [RequiresTheory(Needs.Release | Needs.Fuse, "qemu-img")]
    [InlineData("/dev/zero", "may not refer to '/dev/zero'")]
    [InlineData("/proc/self/environ", "may not refer to '/proc")]
    [InlineData("nbd://localhost/x", "backing file")]
    [InlineData("json:{\"driver\":\"file\",\"filename\":\"/etc/passwd\"}", "backing file")]
    public async Task Base_NotAPlainLocalFile_IsRefused(string name, string reason)
    {
        string image = await CreateAsync("a.qcow2", "cluster_size=65536", 1 << 20);
        await QemuImg.RunAsync("rebase", "-u", "-b", name, "-F", "raw", image);
        await RefusedAsync(image, [reason]);
    }

    [RequiresFact(Needs.Release | Needs.Fuse)]
    public async Task Raw_WithoutFormat_IsNotGuessed()
    {
        string image = MakeImage("a.raw", 1 << 16);
        await RefusedAsync(image, ["-f raw"]);
    }

    private async Task RefusedAsync(string image, string[] words, params string[] more)
    {
        byte[] before = SHA256.HashData(File.ReadAllBytes(image));
        ToolResult result = await RunAsync([image, this["m"], .. more]);
        Assert.NotEqual(0, result.ExitCode);
        Assert.StartsWith("blockmount: ", result.Error, StringComparison.Ordinal);
        Assert.All(words, word => Assert.Contains(word, result.Error, StringComparison.OrdinalIgnoreCase));
        Assert.DoesNotContain("   at ", result.Error, StringComparison.Ordinal);
        Assert.DoesNotContain("internal error", result.Error, StringComparison.OrdinalIgnoreCase);
        Assert.Equal(before, SHA256.HashData(File.ReadAllBytes(image)));
        Assert.False(File.Exists(this["m"]));
        Assert.Empty(await PidsAsync());
    }
}
