using BlockMount.TestSupport;
using Xunit;

namespace BlockMount.Interop.Serving;

/// <summary>Images with an external data file through a mount: found by name, or where '-o data_file' says.</summary>
public sealed class DataFileMountTests : ServedImageFixture
{
    private const int Size = 4 << 20;

    [RequiresTheory(Needs.Release | Needs.Fuse, "qemu-img", "qemu-io")]
    [InlineData("", false)]
    [InlineData(",data_file_raw=on", false)]
    [InlineData("", true)]
    [InlineData(",data_file_raw=on,extended_l2=on", true)]
    public async Task Mount_ReadsAndWritesTheDataFile(string options, bool moved)
    {
        string image = this["top.qcow2"];
        string data = this["data.raw"];
        await QemuImg.RunAsync("create", "-q", "-f", "qcow2", "-o", $"data_file={data}{options}", image, QemuImg.Bytes(Size));
        await QemuImg.IoAsync(image, "write -P 0x11 100k 300k", "write -P 0x12 3000k 70k", "write -z 1M 256k");
        byte[] content = await QemuImg.ReadGuestAsync(image, this["expected.raw"]);
        string[] arguments = [];
        if (moved)
        {
            File.Move(data, this["elsewhere"]);
            arguments = ["-o", $"data_file={this["elsewhere"]}"];
        }

        string disk = await MountAsync(image, arguments);
        EqualBytes(content, await File.ReadAllBytesAsync(disk));
        byte[] written = [.. Enumerable.Range(0, 10_000).Select(i => (byte)(i % 251))];
        await using (FileStream stream = new(disk, FileMode.Open, FileAccess.ReadWrite))
        {
            stream.Position = 1_500_001;
            await stream.WriteAsync(written);
        }

        await UmountAsync();
        if (moved)
        {
            File.Move(this["elsewhere"], data);
        }

        written.CopyTo(content, 1_500_001);
        EqualBytes(content, await QemuImg.ReadGuestAsync(image, this["after.raw"]));
        Assert.Equal(0, (await QemuImg.CheckAsync(image)).ExitCode);
        if (options.Contains("raw=on", StringComparison.Ordinal))
        {
            EqualBytes(content, await File.ReadAllBytesAsync(data));
        }
    }
}
