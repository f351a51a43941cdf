using System.Globalization;
using BlockMount.TestSupport;
using Xunit;

namespace BlockMount.Interop.Serving;

/// <summary>
/// Proves that random writes, zeroes and discards through the mount and through NBD at the same time leave an image that qemu-img finds clean and
/// reads back as a plain array of bytes does.
/// </summary>
public sealed class RandomWriteTests : ServedImageFixture
{
    private const int Size = 8 << 20;

    [RequiresTheory(Needs.Release | Needs.Fuse, "qemu-img", "qemu-io")]
    [InlineData("cluster_size=512,refcount_bits=1", "none")]
    [InlineData("cluster_size=512,refcount_bits=64", "qcow2")]
    [InlineData("cluster_size=4096", "raw")]
    [InlineData("cluster_size=65536", "none")]
    [InlineData("cluster_size=65536,lazy_refcounts=on", "qcow2")]
    [InlineData("cluster_size=65536,compat=0.10", "raw")]
    [InlineData("cluster_size=2097152,refcount_bits=8", "qcow2")]
    [InlineData("cluster_size=16384,extended_l2=on", "none")]
    [InlineData("cluster_size=65536,extended_l2=on,lazy_refcounts=on", "qcow2")]
    [InlineData("cluster_size=2097152,extended_l2=on", "raw")]
    [InlineData("cluster_size=65536,data_file={0}", "qcow2")]
    [InlineData("cluster_size=16384,extended_l2=on,data_file={0}", "raw")]
    [InlineData("cluster_size=65536,data_file={0},data_file_raw=on", "none")]
    public async Task MountAndNbd_RandomWrites_EqualTheModelAndPassCheck(string options, string backing)
    {
        byte[] model = new byte[Size];
        string image = await MakeAsync(options.Replace("{0}", this["data"], StringComparison.Ordinal), backing, model);
        string disk = await MountAsync(image, "--nbd", $"unix:{this["s"]}");
        Random random = new(options.Length * 31 + backing.Length);
        for (int round = 0; round < 6; round++)
        {
            WriteThroughMount(disk, model, random, 60);
            await WriteThroughNbdAsync(model, random, 60);
            EqualBytes(model, await File.ReadAllBytesAsync(disk));
        }

        await UmountAsync();
        await ImageIsCleanAndEqualsAsync(image, model);
    }

    [RequiresTheory(Needs.Release | Needs.Fuse, "qemu-img", "qemu-io")]
    [InlineData("zlib")]
    [InlineData("zstd")]
    public async Task Mount_WritesIntoCompressedClusters_KeepTheRestOfEachCluster(string compression)
    {
        byte[] model = new byte[Size];
        string plain = await CreateAsync("plain.qcow2", "cluster_size=65536", Size);
        await QemuImg.IoAsync(plain, "write -P 0x41 0 3M", "write -P 0x42 5M 1M");
        string image = this["a.qcow2"];
        await QemuImg.RunAsync("convert", "-c", "-O", "qcow2", "-o", $"compression_type={compression}", plain, image);
        model.AsSpan(0, 3 << 20).Fill(0x41);
        model.AsSpan(5 << 20, 1 << 20).Fill(0x42);
        string disk = await MountAsync(image);
        WriteThroughMount(disk, model, new Random(5), 100);
        EqualBytes(model, await File.ReadAllBytesAsync(disk));
        await UmountAsync();
        await ImageIsCleanAndEqualsAsync(image, model);
    }

    [RequiresFact(Needs.Release | Needs.Fuse, "qemu-img", "qemu-io")]
    public async Task Mount_ImageWithInternalSnapshot_LeavesTheSnapshotAlone()
    {
        byte[] model = new byte[Size];
        string image = await CreateAsync("a.qcow2", "cluster_size=65536", Size);
        await QemuImg.IoAsync(image, "write -P 0x41 0 4M");
        model.AsSpan(0, 4 << 20).Fill(0x41);
        byte[] then = model.ToArray();
        await QemuImg.RunAsync("snapshot", "-c", "before", image);
        string disk = await MountAsync(image);
        WriteThroughMount(disk, model, new Random(6), 100);
        await UmountAsync();
        await ImageIsCleanAndEqualsAsync(image, model);
        await QemuImg.RunAsync("convert", "-l", "snapshot.name=before", "-O", "raw", image, this["before.raw"]);
        EqualBytes(then, await File.ReadAllBytesAsync(this["before.raw"]));
    }

    // Everything that can be in one image at once.
    [RequiresFact(Needs.Release | Needs.Fuse | Needs.Zstd, "qemu-img", "qemu-io")]
    public async Task Mount_SubclustersStreamsSnapshotsAndBitmaps_AllKept()
    {
        byte[] model = new byte[Size];
        string plain = await CreateAsync("plain.qcow2", "cluster_size=65536", Size);
        await QemuImg.IoAsync(plain, "write -P 0x41 0 3M", "write -P 0x42 5M 1M");
        string image = this["a.qcow2"];
        await QemuImg.RunAsync("convert", "-c", "-O", "qcow2", "-o", "compression_type=zstd,extended_l2=on", plain, image);
        await QemuImg.RunAsync("bitmap", "--add", "--disable", image, "kept");
        await QemuImg.RunAsync("snapshot", "-c", "before", image);
        model.AsSpan(0, 3 << 20).Fill(0x41);
        model.AsSpan(5 << 20, 1 << 20).Fill(0x42);
        byte[] then = model.ToArray();
        string disk = await MountAsync(image);
        WriteThroughMount(disk, model, new Random(7), 100);
        await UmountAsync();
        await ImageIsCleanAndEqualsAsync(image, model);
        await QemuImg.RunAsync("convert", "-l", "snapshot.name=before", "-O", "raw", image, this["before.raw"]);
        EqualBytes(then, await File.ReadAllBytesAsync(this["before.raw"]));
        // What is inconsistent could not be enabled.
        await QemuImg.RunAsync("bitmap", "--enable", image, "kept");
    }

    private async Task<string> MakeAsync(string options, string backing, byte[] model)
    {
        if (backing == "none")
        {
            return await CreateAsync("a.qcow2", options, Size);
        }

        string raw = MakeImage("base.raw", 5_000_192);
        File.ReadAllBytes(raw).CopyTo(model, 0);
        if (backing == "qcow2")
        {
            await QemuImg.RunAsync("convert", "-f", "raw", "-O", "qcow2", raw, this["base.qcow2"]);
            raw = this["base.qcow2"];
        }

        return await CreateAsync("a.qcow2", options, Size, raw, backing);
    }

    private static void WriteThroughMount(string path, byte[] model, Random random, int count)
    {
        using FileStream disk = OpenDisk(path);
        for (int i = 0; i < count; i++)
        {
            int offset = random.Next(Size);
            int length = 1 + random.Next(Math.Min(Size - offset, 150_000));
            byte[] data = new byte[length];
            random.NextBytes(data);
            RandomAccess.Write(disk.SafeFileHandle, data, offset);
            data.CopyTo(model, offset);
            if (random.Next(10) == 0)
            {
                CheckedFlush.Run(disk.SafeFileHandle);
            }
        }
    }

    private async Task WriteThroughNbdAsync(byte[] model, Random random, int count)
    {
        List<string> arguments = ["-f", "raw"];
        for (int i = 0; i < count; i++)
        {
            int offset = random.Next(Size / 512) * 512;
            int length = 512 * (1 + random.Next(Math.Min((Size - offset) / 512, 300)));
            byte pattern = (byte)random.Next(1, 256);
            bool zero = random.Next(4) == 0;
            string flags = zero ? (random.Next(2) == 0 ? "-z" : "-z -u") : $"-P {pattern}";
            arguments.AddRange(["-c", string.Create(CultureInfo.InvariantCulture, $"write {flags} {offset} {length}")]);
            model.AsSpan(offset, length).Fill(zero ? (byte)0 : pattern);
        }

        arguments.Add($"nbd+unix:///?socket={this["s"]}");
        ToolResult result = (await ToolProcess.RunAsync("qemu-io", [.. arguments])).MustSucceed();
        Assert.DoesNotContain("failed", result.Output, StringComparison.Ordinal);
    }
}
