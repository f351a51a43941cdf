using System.Text.Json.Nodes;
using BlockMount.TestSupport;
using Xunit;

namespace BlockMount.Interop.Images;

/// <summary>'blockmount resize' beside 'qemu-img resize': the same words on two copies of one image end in the same way and in the same disk.</summary>
public sealed class ResizeTests : ImageFixture
{
    private static readonly string[][] s_steps =
    [
        ["a", "+5M"],
        ["a", "5M"],
        ["--shrink", "a", "6M"],
        ["a", "17M"],
        ["a", "-1M"],
        ["--shrink", "a", "-1M"],
        ["--shrink", "a", "-20M"],
        ["--shrink", "a", "0"],
        ["a", "+0"],
        ["--preallocation=metadata", "a", "20M"],
        ["--preallocation=metadata", "--shrink", "a", "1M"],
        ["--preallocation=falloc", "a", "+3M"],
        ["--preallocation=full", "a", "+1536"],
        ["--preallocation=full", "a", "+1M"],
        ["--preallocation=some", "a", "+1M"],
        ["--preallocation=off", "-q", "a", "+1M"],
        ["--shrink", "a", "1000"],
        ["a", "1x"],
        ["a", ""],
        ["a", "4611686018427387904"],
        ["--shrink", "-q", "a", "3584"],
    ];

    [RequiresTheory(Needs.Release, "qemu-img", "qemu-io")]
    [InlineData("cluster_size=512", null)]
    [InlineData("cluster_size=64k,compat=0.10", null)]
    [InlineData("cluster_size=4k,refcount_bits=1", "raw")]
    [InlineData("cluster_size=64k,lazy_refcounts=off", "qcow2")]
    [InlineData("cluster_size=2M,refcount_bits=64", null)]
    public async Task Resize_SameSteps_SameAnswersAndDisksAsQemuImg(string options, string? backing)
    {
        if (backing is not null)
        {
            await QemuImg.RunAsync("create", "-q", "-f", backing, this["base"], "18M");
            await ToolProcess.RunAsync("qemu-io", "-f", backing, "-c", "write -P 0x55 0 18M", this["base"]);
        }

        string[] chain = backing is null ? [] : ["-b", this["base"], "-F", backing];
        await QemuImg.RunAsync(["create", "-q", "-f", "qcow2", "-o", options, .. chain, this["theirs"], "10M"]);
        await QemuImg.IoAsync(this["theirs"], "write -P 1 0 1M", "write -P 2 5000k 70k", "write -P 3 9M 1M");
        File.Copy(this["theirs"], this["ours"]);
        foreach (string[] step in s_steps)
        {
            await StepAsync("qcow2", step);
        }

        await AssertCleanAsync(this["ours"]);
        await AssertSameInfoAsync(this["ours"]);

        // Not compared: qemu-img shows again what lay behind the end of the short disk in its last cluster.
        await BlockMountAsync("resize", this["ours"], "12M");
        (await ToolProcess.RunAsync("qemu-io", "-f", "qcow2", "-c", "read -P 1 0 3584", "-c", "read -P 0 3584 11M", this["ours"])).MustSucceed();
        await AssertCleanAsync(this["ours"]);
    }

    [RequiresFact(Needs.Release, "qemu-img")]
    public async Task Resize_Raw_SameAnswersAsQemuImg()
    {
        await File.WriteAllTextAsync(this["theirs"], "something at the beginning");
        File.Copy(this["theirs"], this["ours"]);
        await StepAsync("raw", ["a", "1M"]);
        await StepAsync("raw", ["--preallocation=full", "a", "+64k"]);
        await StepAsync("raw", ["--preallocation=metadata", "a", "+64k"]);
        await StepAsync("raw", ["--preallocation=falloc", "a", "+64k"]);
        await StepAsync("raw", ["a", "1k"]);
        await StepAsync("raw", ["--shrink", "a", "1k"]);
    }

    // qemu-img guesses; a guest that writes a qcow2 header into its raw disk would decide what is resized.
    [RequiresFact(Needs.Release)]
    public async Task Resize_RawThatWasNotCalledRaw_IsRefused()
    {
        await File.WriteAllTextAsync(this["a"], "raw");
        await FailAsync("resize", this["a"], "1M");
        Assert.Equal(3, new FileInfo(this["a"]).Length);
    }

    [RequiresFact(Needs.Release, "qemu-img")]
    public async Task Resize_WrongRequests_LeaveTheImageAlone()
    {
        await QemuImg.RunAsync("create", "-q", "-f", "qcow2", "-o", "compat=0.10", this["a"], "1M");
        await QemuImg.RunAsync("snapshot", "-c", "one", this["a"]);
        byte[] before = await File.ReadAllBytesAsync(this["a"]);
        Assert.Contains("snapshots", await FailAsync("resize", this["a"], "2M"), StringComparison.Ordinal);
        Assert.Contains("--shrink", await FailAsync("resize", this["a"], "512k"), StringComparison.Ordinal);
        Assert.Contains("No such file", await FailAsync("resize", this["missing"], "512k"), StringComparison.Ordinal);
        Assert.Contains("Unknown", await FailAsync("resize", "-f", "vmdk", this["a"], "512k"), StringComparison.Ordinal);
        Assert.Equal(2, (await ReleaseBinary.RunAsync("resize", this["a"])).ExitCode);
        Assert.Equal(before, await File.ReadAllBytesAsync(this["a"]));
    }

    private async Task StepAsync(string format, string[] step)
    {
        string[] words = ["resize", "-f", format, .. step];
        ToolResult theirs = await ToolProcess.RunAsync("qemu-img", [.. words.Select(word => word == "a" ? this["theirs"] : word)]);
        ToolResult ours = await ReleaseBinary.RunAsync([.. words.Select(word => word == "a" ? this["ours"] : word)]);
        string context = $"{string.Join(' ', words)}\nqemu-img: {theirs.ExitCode} {theirs.Error}\nblockmount: {ours.ExitCode} {ours.Error}";
        Assert.True(theirs.ExitCode == ours.ExitCode, context);
        Assert.Equal(theirs.Output, ours.Output);
        Assert.DoesNotContain("internal error", ours.Error, StringComparison.Ordinal);
        Assert.Equal(await SizeAsync("theirs", format), await SizeAsync("ours", format));
        await QemuImg.RunAsync("compare", "-f", format, "-F", format, this["theirs"], this["ours"]);
        if (format == "qcow2")
        {
            await AssertCleanAsync(this["ours"]);
        }
    }

    private async Task<long> SizeAsync(string name, string format) =>
        JsonNode.Parse(await QemuImg.RunAsync("info", "-f", format, "--output", "json", this[name]))!["virtual-size"]!.GetValue<long>();
}
