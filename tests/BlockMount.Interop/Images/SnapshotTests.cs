using System.Diagnostics;
using BlockMount.TestSupport;
using Xunit;

namespace BlockMount.Interop.Images;

/// <summary>'blockmount snapshot' beside 'qemu-img snapshot'.</summary>
public sealed class SnapshotTests : ImageFixture
{
    [RequiresFact(Needs.Release, "qemu-img", "qemu-io")]
    public async Task List_PrintsTheTableOfQemuImg()
    {
        await MakeAsync();
        Assert.Equal("", await BlockMountAsync("snapshot", "-l", this["a"]));
        await BlockMountAsync("snapshot", "-c", "ours", this["a"]);
        foreach (string name in new[] { "theirs", "two words", "n\u00e4me", "a name that is longer than its column", "" })
        {
            await QemuImg.RunAsync("snapshot", "-c", name, this["a"]);
        }

        string table = await QemuImg.RunAsync("snapshot", "-l", this["a"]);
        Assert.Equal(table, await BlockMountAsync("snapshot", "-l", this["a"]));
        Assert.Equal(table, await BlockMountAsync("snapshot", "-q", "-f", "qcow2", this["a"]));
        Assert.Equal(9, table.Split('\n').Length);
    }

    [RequiresFact(Needs.Release, "qemu-img", "qemu-io")]
    public async Task CreateApplyDelete_AsQemuImg()
    {
        await MakeAsync();
        Assert.Equal("", await BlockMountAsync("snapshot", "-c", "before", this["a"]));
        await QemuImg.IoAsync(this["a"], "write -P 2 0 64k");
        await AssertCleanAsync(this["a"]);
        Assert.Equal("", await BlockMountAsync("snapshot", "-a", "before", this["a"]));
        await QemuImg.IoAsync(this["a"], "read -P 1 0 64k");
        await AssertCleanAsync(this["a"]);
        Assert.Equal("", await BlockMountAsync("snapshot", "-d", "before", this["a"]));
        Assert.Equal("", await QemuImg.RunAsync("snapshot", "-l", this["a"]));
        await AssertCleanAsync(this["a"]);
    }

    [RequiresTheory(Needs.Release, "qemu-img", "qemu-io")]
    [InlineData("-a", "nobody", "Could not apply snapshot 'nobody'")]
    [InlineData("-d", "nobody", "Could not delete snapshot 'nobody': snapshot not found")]
    // -d takes names only.
    [InlineData("-d", "1", "Could not delete snapshot '1': snapshot not found")]
    public async Task UnknownSnapshot_IsAnErrorForBoth(string letter, string name, string message)
    {
        await MakeAsync();
        await BlockMountAsync("snapshot", "-c", "before", this["a"]);
        Assert.Equal(1, (await ToolProcess.RunAsync("qemu-img", "snapshot", letter, name, this["a"])).ExitCode);
        Assert.Contains(message, await FailAsync("snapshot", letter, name, this["a"]), StringComparison.Ordinal);
    }

    [RequiresTheory(Needs.Release, "qemu-img", "qemu-io")]
    [InlineData("refcount_bits=1", "Invalid argument")]
    [InlineData("data_file=data", "external data file")]
    public async Task Create_WhereQemuRefuses_IsRefused(string options, string words)
    {
        await QemuImg.RunAsync("create", "-q", "-f", "qcow2", "-o", options.Replace("data_file=", $"data_file={Folder}/", StringComparison.Ordinal), this["a"], "1M");
        await QemuImg.IoAsync(this["a"], "write 0 64k");
        string error = await FailAsync("snapshot", "-c", "s", this["a"]);
        Assert.Contains(words, error.Replace("external file", "external data file", StringComparison.Ordinal), StringComparison.Ordinal);
        await AssertCleanAsync(this["a"]);
        // Last: it leaves leaked clusters behind.
        Assert.Equal(1, (await ToolProcess.RunAsync("qemu-img", "snapshot", "-c", "s", this["a"])).ExitCode);
    }

    [RequiresFact(Needs.Release, "qemu-img")]
    public async Task RawImage_HasNone()
    {
        await QemuImg.RunAsync("create", "-q", "-f", "raw", this["r"], "1M");
        Assert.Equal("", await BlockMountAsync("snapshot", "-l", "-f", "raw", this["r"]));
        Assert.Contains("Could not create snapshot 's'", await FailAsync("snapshot", "-f", "raw", "-c", "s", this["r"]), StringComparison.Ordinal);
    }

    [RequiresFact(Needs.Release, "qemu-img", "qemu-io")]
    public async Task ImageInUse_CanBeListedWithForceShareOnly()
    {
        await MakeAsync();
        await BlockMountAsync("snapshot", "-c", "before", this["a"]);
        using Process user = ToolProcess.Start("qemu-io", "-f", "qcow2", this["a"]);
        try
        {
            await user.StandardInput.WriteLineAsync("read 0 512");
            Assert.NotNull(await user.StandardOutput.ReadLineAsync());
            await FailAsync("snapshot", "-l", this["a"]);
            await FailAsync("snapshot", "-c", "after", this["a"]);
            await FailAsync("snapshot", "-d", "before", this["a"]);
            Assert.Contains("before", await BlockMountAsync("snapshot", "-U", "-l", this["a"]), StringComparison.Ordinal);
        }
        finally
        {
            user.StandardInput.Close();
            await user.WaitForExitAsync();
        }
    }

    [RequiresFact(Needs.Release, "qemu-img")]
    public async Task MixedLetters_AreAWrongCommandLine()
    {
        Assert.Equal(2, (await ReleaseBinary.RunAsync("snapshot", "-l", "-c", "x", this["a"])).ExitCode);
        Assert.Equal(2, (await ReleaseBinary.RunAsync("snapshot", "-a", "x", "-d", "x", this["a"])).ExitCode);
        Assert.Equal(2, (await ReleaseBinary.RunAsync("snapshot", "-U", "-c", "x", this["a"])).ExitCode);
        Assert.Equal(2, (await ReleaseBinary.RunAsync("snapshot")).ExitCode);
        Assert.Equal(2, (await ReleaseBinary.RunAsync("-o", "snapshot=x", this["a"], this["m"])).ExitCode);
    }

    private async Task MakeAsync()
    {
        await QemuImg.RunAsync("create", "-q", "-f", "qcow2", this["a"], "10M");
        await QemuImg.IoAsync(this["a"], "write -P 1 0 1M");
    }
}
