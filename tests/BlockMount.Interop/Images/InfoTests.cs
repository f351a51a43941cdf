using System.Diagnostics;
using System.Text.Json.Nodes;
using BlockMount.TestSupport;
using Xunit;

namespace BlockMount.Interop.Images;

/// <summary>'blockmount info' beside 'qemu-img info'.</summary>
public sealed class InfoTests : ImageFixture
{
    [RequiresTheory(Needs.Release, "qemu-img")]
    [InlineData("qcow2", "compat=0.10")]
    [InlineData("qcow2", "lazy_refcounts=on,refcount_bits=64")]
    [InlineData("qcow2", "compression_type=zstd,cluster_size=512")]
    [InlineData("qcow2", "extended_l2=on")]
    [InlineData("raw", "preallocation=off")]
    public async Task Info_ImageOfQemuImg_AgreesInBothForms(string format, string options)
    {
        await QemuImg.RunAsync("create", "-q", "-f", format, "-o", options, this["a"], "10M");
        await AssertSameInfoAsync(this["a"]);
        Assert.Equal(await QemuImg.RunAsync("info", this["a"]), await BlockMountAsync("info", this["a"]));
    }

    [RequiresTheory(Needs.Release, "qemu-img")]
    [InlineData("")]
    [InlineData(",data_file_raw=on")]
    [InlineData(",data_file_raw=on,extended_l2=on,cluster_size=16k")]
    public async Task Info_ImageWithDataFile_AgreesInBothForms_AndDoesNotOpenIt(string options)
    {
        await QemuImg.RunAsync("create", "-q", "-f", "qcow2", "-o", $"data_file={this["data"]}{options}", this["a"], "10M");
        await AssertSameInfoAsync(this["a"]);
        string theirs = await QemuImg.RunAsync("info", this["a"]);
        File.Delete(this["data"]);
        Assert.Equal(theirs, await BlockMountAsync("info", this["a"]));
    }

    [RequiresFact(Needs.Release, "qemu-img", "qemu-io")]
    public async Task Info_ChainWithSnapshots_AgreesInBothForms()
    {
        Directory.CreateDirectory(this["folder"]);
        await QemuImg.RunAsync("create", "-q", "-f", "raw", this["base.raw"], "10000");
        await QemuImg.RunAsync("create", "-q", "-f", "qcow2", "-b", "base.raw", "-F", "raw", this["mid"], "10M");
        await QemuImg.RunAsync("snapshot", "-c", "first", this["mid"]);
        await QemuImg.IoAsync(this["mid"], "write 0 1M");
        await QemuImg.RunAsync("snapshot", "-c", "the second one", this["mid"]);
        await QemuImg.RunAsync("create", "-q", "-f", "qcow2", "-b", "../mid", "-F", "qcow2", this["folder/top"]);
        await AssertSameInfoAsync("--backing-chain", this["folder/top"]);
        await AssertSameInfoAsync(this["mid"]);
        Assert.Equal(
            await QemuImg.RunAsync("info", "--backing-chain", this["folder/top"]),
            await BlockMountAsync("info", "--backing-chain", this["folder/top"]));
    }

    [RequiresFact(Needs.Release, "qemu-img")]
    public async Task Info_BrokenChain_PrintsWhatItCanAndThenTheLink()
    {
        await QemuImg.RunAsync("create", "-q", "-f", "qcow2", "-u", "-b", "bsae.raw", "-F", "raw", this["mid"], "1M");
        await QemuImg.RunAsync("create", "-q", "-f", "qcow2", "-u", "-b", "mid", "-F", "qcow2", this["top"], "1M");
        await QemuImg.RunAsync("create", "-q", "-f", "raw", this["base.raw"], "1M");

        ToolResult human = await ReleaseBinary.RunAsync("info", "--backing-chain", this["top"]);
        Assert.Equal(1, human.ExitCode);
        Assert.Contains($"image: {this["top"]}", human.Output, StringComparison.Ordinal);
        Assert.Contains($"image: {this["mid"]}", human.Output, StringComparison.Ordinal);
        Assert.Contains($"Could not open '{this["bsae.raw"]}'", human.Error, StringComparison.Ordinal);
        Assert.Contains("base.raw", human.Error, StringComparison.Ordinal);

        ToolResult json = await ReleaseBinary.RunAsync("info", "--backing-chain", "--output", "json", this["top"]);
        Assert.Equal(1, json.ExitCode);
        Assert.Equal(2, JsonNode.Parse(json.Output)!.AsArray().Count);
        (await ReleaseBinary.RunAsync("info", this["top"])).MustSucceed();
    }

    [RequiresFact(Needs.Release, "qemu-img", "qemu-io")]
    public async Task InfoAndCreate_ImageInUseByQemu_ReadsItAndDoesNotReplaceIt()
    {
        string path = this["a"];
        await QemuImg.RunAsync("create", "-q", "-f", "qcow2", path, "1M");
        using Process user = ToolProcess.Start("qemu-io", "-f", "qcow2", path);
        try
        {
            await WaitForPromptAsync(user);
            byte[] before = await File.ReadAllBytesAsync(path);
            Assert.Contains("note: live", await BlockMountAsync("info", path), StringComparison.Ordinal);
            Assert.True(JsonNode.Parse(await BlockMountAsync("info", "--output", "json", path))!["blockmount"]!["live"]!.GetValue<bool>());
            Assert.Contains("lock", await FailAsync("create", "-f", "qcow2", path, "2M"), StringComparison.Ordinal);
            Assert.Equal(before, await File.ReadAllBytesAsync(path));
            Assert.Single(Directory.GetFileSystemEntries(Folder));
        }
        finally
        {
            user.StandardInput.Close();
            if (!user.WaitForExit(10_000))
            {
                user.Kill();
            }
        }

        Assert.DoesNotContain("live", await BlockMountAsync("info", path), StringComparison.Ordinal);
    }

    [RequiresFact(Needs.Release, "qemu-img")]
    public async Task Info_HostileNames_DoNotReachTheTerminal()
    {
        await QemuImg.RunAsync("create", "-q", "-f", "qcow2", "-u", "-b", "\u001b[2Jevil", "-F", "raw", this["a"], "1M");
        string human = await BlockMountAsync("info", this["a"]);
        Assert.DoesNotContain("\u001b", human, StringComparison.Ordinal);
        Assert.Contains("refused", human, StringComparison.Ordinal);
        Assert.Equal("\u001b[2Jevil", JsonNode.Parse(await BlockMountAsync("info", "--output", "json", this["a"]))!["backing-filename"]!.GetValue<string>());
    }

    [RequiresFact(Needs.Release)]
    public async Task Info_NoImage_FailsWithOne()
    {
        await FailAsync("info", this["missing"]);
        await FailAsync("info", Folder);
        await File.WriteAllTextAsync(this["empty"], "");
        await BlockMountAsync("info", this["empty"]);
        await FailAsync("info", "-f", "qcow2", this["empty"]);
    }

    // Its prompt comes when the image is open. Probing the lock instead would take it away from qemu-io.
    private static async Task WaitForPromptAsync(Process qemuIo)
    {
        using CancellationTokenSource patience = new(TimeSpan.FromSeconds(20));
        char[] one = new char[1];
        do
        {
            int read = await qemuIo.StandardOutput.ReadAsync(one, patience.Token);
            Assert.True(read == 1, "qemu-io ended without opening the image");
        }
        while (one[0] != '>');
    }
}
