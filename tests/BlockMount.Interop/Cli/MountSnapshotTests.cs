using BlockMount.TestSupport;
using Xunit;

namespace BlockMount.Interop.Cli;

/// <summary>An internal snapshot shown as a file of its own.</summary>
public sealed class MountSnapshotTests : CliFixture
{
    [RequiresReleaseFact("qemu-img", "qemu-io")]
    public async Task Snapshot_Mounted_ShowsTheDiskOfThen()
    {
        byte[] below = new byte[1 << 20];
        new Random(3).NextBytes(below);
        await File.WriteAllBytesAsync(this["below"], below);
        await QemuImg.RunAsync("create", "-q", "-f", "qcow2", "-b", "below", "-F", "raw", this["a"], "2M");
        await QemuImg.IoAsync(this["a"], "write -P 1 64k 100k");
        byte[] then = await QemuImg.ReadGuestAsync(this["a"], this["guest"]);
        await QemuImg.RunAsync("snapshot", "-c", "before", this["a"]);
        await QemuImg.RunAsync("resize", "-q", this["a"], "3M");
        await QemuImg.IoAsync(this["a"], "write -P 2 0 1M");
        foreach (string snapshot in new[] { "before", "1" })
        {
            (await RunAsync("-o", $"ro,snapshot={snapshot}", this["a"], this["m"])).MustSucceed();
            Assert.Equal(then, await File.ReadAllBytesAsync(this["m"]));
            (await RunAsync("umount", this["m"])).MustSucceed();
        }

        ToolResult missing = await RunAsync("-o", "ro,snapshot=after", this["a"], this["m"]);
        Assert.Equal(1, missing.ExitCode);
        Assert.Contains("snapshot 'after'", missing.Error, StringComparison.Ordinal);
        ToolResult raw = await RunAsync("-o", "ro,snapshot=before", "-f", "raw", this["below"], this["m"]);
        Assert.Equal(1, raw.ExitCode);
        Assert.Contains("keeps none", raw.Error, StringComparison.Ordinal);
    }
}
