using BlockMount.TestSupport;
using Xunit;

namespace BlockMount.Interop.Images;

/// <summary>'blockmount amend' beside 'qemu-img amend'.</summary>
public sealed class AmendCommandTests : ImageFixture
{
    [RequiresTheory(Needs.Release, "qemu-img", "qemu-io")]
    [InlineData("size=8M")]
    [InlineData("size=2M,refcount_bits=64")]
    [InlineData("size=16M,compat=0.10")]
    [InlineData("lazy_refcounts")]
    [InlineData("backing_file=base,backing_fmt=raw,refcount_bits=1")]
    public async Task Amend_SameArguments_EndsAsWithQemuImg(string options)
    {
        await PrepareAsync();
        await InFolderAsync("qemu-img", "amend", "-q", "-o", options, "theirs");
        await InFolderAsync(ReleaseBinary.FullPath, "amend", "-q", "-o", options, "ours");
        await AssertCleanAsync(this["ours"]);
        await AssertSameInfoAsync(this["ours"]);
        // Clusters of zeros in version 2: holes of the file here, written zeros there.
        string[] strict = options.Contains("compat=0.10", StringComparison.Ordinal) ? [] : ["-s"];
        (await ToolProcess.RunAsync("qemu-img", ["compare", .. strict, this["theirs"], this["ours"]])).MustSucceed();
    }

    [RequiresTheory(Needs.Release, "qemu-img", "qemu-io")]
    [InlineData("cluster_size=4k")]
    [InlineData("preallocation=metadata")]
    [InlineData("foo=1")]
    [InlineData("backing_file=x")]
    [InlineData("backing_fmt=qcow2")]
    [InlineData("compat=9")]
    [InlineData("refcount_bits=3")]
    [InlineData("refcount_bits=x")]
    [InlineData("lazy_refcounts=maybe")]
    [InlineData("data_file=x")]
    [InlineData("data_file_raw=on")]
    [InlineData("compat=0.10,lazy_refcounts=on")]
    public async Task Amend_WhatQemuImgRefuses_IsRefusedInItsWords(string options)
    {
        await PrepareAsync();
        byte[] before = await File.ReadAllBytesAsync(this["ours"]);
        ToolResult refused = await ToolProcess.RunAsync("qemu-img", "amend", "-o", options, this["theirs"]);
        Assert.Equal(1, refused.ExitCode);
        string said = await FailAsync("amend", "-o", options, this["ours"]);
        Assert.Contains(refused.Error.Split('\n')[0].Replace("qemu-img: ", "", StringComparison.Ordinal), said, StringComparison.Ordinal);
        Assert.Equal(before, await File.ReadAllBytesAsync(this["ours"]));
    }

    [RequiresFact(Needs.Release, "qemu-img")]
    public async Task Amend_RawOrWithoutOptions_IsRefused()
    {
        await QemuImg.RunAsync("create", "-q", "-f", "raw", this["raw"], "1M");
        Assert.Contains("does not support option amendment", await FailAsync("amend", "-f", "raw", "-o", "size=2M", this["raw"]), StringComparison.Ordinal);
        Assert.Contains("Must specify options", await FailAsync("amend", this["raw"]), StringComparison.Ordinal);
        Assert.Contains("refcount_bits", await BlockMountAsync("amend", "-o", "help", this["raw"]), StringComparison.Ordinal);
    }

    private async Task PrepareAsync()
    {
        await QemuImg.RunAsync("create", "-q", "-f", "raw", this["base"], "20M");
        await QemuImg.RunAsync("convert", "-f", "raw", "-O", "raw", this["base"], this["copy"]);
        await InFolderAsync("qemu-img", "create", "-q", "-f", "qcow2", "-b", "base", "-F", "raw", "ours", "4M");
        await QemuImg.IoAsync(this["ours"], "write -P 1 0 100k", "write -z 1M 200k", "write -P 7 3900k 190k");
        File.Copy(this["ours"], this["theirs"]);
    }

    private async Task InFolderAsync(string program, params string[] arguments) =>
        (await ToolProcess.RunAsync("env", ["-C", Folder, program, .. arguments])).MustSucceed();
}
