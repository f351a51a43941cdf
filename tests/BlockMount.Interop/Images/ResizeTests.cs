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
    [InlineData("extended_l2=on", null)]
    [InlineData("extended_l2=on,cluster_size=16k", "raw")]
    [InlineData("data_file=data", null)]
    [InlineData("data_file=data,data_file_raw=on", null)]
    [InlineData("data_file=data,extended_l2=on", "qcow2")]
    public async Task Resize_SameSteps_SameAnswersAndDisksAsQemuImg(string options, string? backing)
    {
        if (backing is not null)
        {
            await QemuImg.RunAsync("create", "-q", "-f", backing, this["base"], "18M");
            await ToolProcess.RunAsync("qemu-io", "-f", backing, "-c", "write -P 0x55 0 18M", this["base"]);
        }

        string[] chain = backing is null ? [] : ["-b", this["base"], "-F", backing];
        foreach (string folder in new[] { "theirs", "ours" })
        {
            Directory.CreateDirectory(this[folder]);
            (await InAsync(folder, "qemu-img", ["create", "-q", "-f", "qcow2", "-o", options, .. chain, "a", "10M"])).MustSucceed();
            (await InAsync(folder, "qemu-io", ["-f", "qcow2", "-c", "write -P 1 0 1M", "-c", "write -P 2 5000k 70k", "-c", "write -P 3 9M 1M", "a"])).MustSucceed();
        }

        foreach (string[] step in s_steps)
        {
            await StepAsync("qcow2", step);
        }

        await AssertSameInfoAsync(this["ours/a"]);

        // Not compared: qemu-img shows again what lay behind the end of the short disk in its last cluster.
        await BlockMountAsync("resize", this["ours/a"], "12M");
        (await InAsync("ours", "qemu-io", ["-f", "qcow2", "-c", "read -P 1 0 3584", "-c", "read -P 0 3584 11M", "a"])).MustSucceed();
        (await InAsync("ours", "qemu-img", ["check", "a"])).MustSucceed();
    }

    [RequiresFact(Needs.Release, "qemu-img")]
    public async Task Resize_Raw_SameAnswersAsQemuImg()
    {
        foreach (string folder in new[] { "theirs", "ours" })
        {
            Directory.CreateDirectory(this[folder]);
            await File.WriteAllTextAsync(this[$"{folder}/a"], "something at the beginning");
        }

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
        ToolResult theirs = await InAsync("theirs", "qemu-img", words);
        ToolResult ours = await InAsync("ours", ReleaseBinary.FullPath, words);
        string context = $"{string.Join(' ', words)}\nqemu-img: {theirs.ExitCode} {theirs.Error}\nblockmount: {ours.ExitCode} {ours.Error}";
        Assert.True(theirs.ExitCode == ours.ExitCode, context);
        Assert.Equal(theirs.Output, ours.Output);
        Assert.DoesNotContain("internal error", ours.Error, StringComparison.Ordinal);
        Assert.Equal(await SizeAsync("theirs", format), await SizeAsync("ours", format));
        if (ours.ExitCode != 0)
        {
            // Whatever a refused step did to the image would show after the next one.
            return;
        }

        (await InAsync("ours", "qemu-img", ["convert", "-f", format, "-O", "raw", "a", "../content"])).MustSucceed();
        (await InAsync("theirs", "qemu-img", ["compare", "-f", format, "-F", "raw", "a", "../content"])).MustSucceed();
        if (format == "qcow2")
        {
            ToolResult check = await InAsync("ours", "qemu-img", ["check", "a"]);
            Assert.True(check.ExitCode == 0, $"{context}\n{check.Output}{check.Error}");
        }
    }

    private async Task<long> SizeAsync(string folder, string format) =>
        JsonNode.Parse((await InAsync(folder, "qemu-img", ["info", "-f", format, "--output", "json", "a"])).MustSucceed().Output)!["virtual-size"]!.GetValue<long>();

    private Task<ToolResult> InAsync(string folder, string program, string[] arguments) =>
        ToolProcess.RunAsync("/usr/bin/env", ["-C", this[folder], program, .. arguments]);
}
