using BlockMount.TestSupport;
using Xunit;

namespace BlockMount.Interop.Serving;

/// <summary>Proves that the tools people point at an NBD export work on a qcow2 chain served by the release binary.</summary>
public sealed class NbdToolTests : ServedImageFixture
{
    private const int Size = 16 << 20;

    private string Uri => $"nbd+unix:///disk?socket={this["s"]}";

    [RequiresFact(Needs.Release, "qemu-img", "nbdinfo", "nbdcopy")]
    public async Task Nbdcopy_BothWays_CarriesTheDisk()
    {
        string image = await CreateAsync("a.qcow2", "cluster_size=65536", Size);
        string source = MakeImage("source.raw", Size);
        (await RunAsync(image, "--nbd", $"unix:{this["s"]}", "--export-name", "disk", "--id", "a")).MustSucceed();
        (await ToolProcess.RunAsync("nbdcopy", "--flush", source, Uri)).MustSucceed();
        (await ToolProcess.RunAsync("nbdcopy", Uri, this["back.raw"])).MustSucceed();
        EqualBytes(File.ReadAllBytes(source), File.ReadAllBytes(this["back.raw"]));
        ToolResult info = (await ToolProcess.RunAsync("nbdinfo", "--json", Uri)).MustSucceed();
        Assert.Contains("\"can_multi_conn\": true", info.Output, StringComparison.Ordinal);
        Assert.Contains("\"can_trim\": true", info.Output, StringComparison.Ordinal);
        (await RunAsync("umount", "a")).MustSucceed();
        await ImageIsCleanAndEqualsAsync(image, File.ReadAllBytes(source));
    }

    [RequiresFact(Needs.Release, "qemu-img", "qemu-io", "nbdinfo")]
    public async Task Nbdinfo_Map_TellsHolesAndDataOfTheWholeChain()
    {
        string below = await CreateAsync("base.qcow2", "cluster_size=65536", Size);
        await QemuImg.IoAsync(below, "write -P 1 0 1M");
        string image = await CreateAsync("a.qcow2", "cluster_size=65536", Size, below, "qcow2");
        await QemuImg.IoAsync(image, "write -P 2 4M 1M");
        (await RunAsync(image, "--nbd", $"unix:{this["s"]}", "--export-name", "disk", "-o", "ro")).MustSucceed();
        ToolResult map = (await ToolProcess.RunAsync("nbdinfo", "--map", Uri)).MustSucceed();
        string[] lines = [.. map.Output.Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(line => string.Join(' ', line.Split(' ', StringSplitOptions.RemoveEmptyEntries)))];
        Assert.Equal(["0 1048576 0 data", "1048576 3145728 3 hole,zero", "4194304 1048576 0 data", "5242880 11534336 3 hole,zero"], lines);
    }

    [RequiresFact(Needs.Release, "qemu-img")]
    public async Task QemuImg_ConvertOverNbd_EqualsConvertOfTheImage()
    {
        string raw = MakeImage("base.raw", Size);
        string image = await CreateAsync("a.qcow2", "cluster_size=4096", Size, raw, "raw");
        (await RunAsync(image, "--nbd", $"unix:{this["s"]}", "--export-name", "disk")).MustSucceed();
        await QemuImg.RunAsync("convert", "-f", "raw", "-O", "raw", Uri, this["out.raw"]);
        EqualBytes(File.ReadAllBytes(raw), File.ReadAllBytes(this["out.raw"]));
        await QemuImg.RunAsync("compare", "-f", "raw", "-F", "raw", Uri, raw);
        // Written over NBD with four connections' worth of parallel requests.
        string other = MakeImage("other.raw", Size - 65536);
        await QemuImg.RunAsync("convert", "-n", "-W", "-m", "8", "-f", "raw", "-O", "raw", other, Uri);
    }

    [RequiresFact(Needs.Release | Needs.Fuse, "qemu-img", "nbdcopy")]
    public async Task TwoConnectionsAndTheMount_AtOnce_SeeOneDisk()
    {
        string image = await CreateAsync("a.qcow2", "cluster_size=65536", Size);
        string disk = await MountAsync(image, "--nbd", $"unix:{this["s"]}", "--export-name", "disk");
        byte[] first = File.ReadAllBytes(MakeImage("first.raw", Size / 2));
        // Two clients at once: one fills the first half by nbdcopy, the other the second half through the mount.
        Task<ToolResult> copy = ToolProcess.RunAsync("nbdcopy", "--connections=2", this["first.raw"], Uri);
        byte[] second = new byte[Size / 2];
        new Random(9).NextBytes(second);
        await using (FileStream file = OpenDisk(disk))
        {
            RandomAccess.Write(file.SafeFileHandle, second, Size / 2);
        }

        (await copy).MustSucceed();
        byte[] all = [.. first, .. second];
        EqualBytes(all, File.ReadAllBytes(disk));
        (await ToolProcess.RunAsync("nbdcopy", "--connections=4", Uri, this["all.raw"])).MustSucceed();
        EqualBytes(all, File.ReadAllBytes(this["all.raw"]));
        await UmountAsync();
        await ImageIsCleanAndEqualsAsync(image, all);
    }
}
