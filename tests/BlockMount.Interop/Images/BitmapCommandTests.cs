using BlockMount.TestSupport;
using Xunit;

namespace BlockMount.Interop.Images;

/// <summary>'blockmount bitmap' beside 'qemu-img bitmap': the same words on two equal images end in the same state.</summary>
public sealed class BitmapCommandTests : ImageFixture
{
    [RequiresTheory(Needs.Release, "qemu-img", "qemu-io", "qemu-nbd", "nbdinfo")]
    [InlineData("--add new")]
    [InlineData("--add -g 512 new")]
    [InlineData("--add --disable -g 1M new")]
    [InlineData("--disable recorded")]
    [InlineData("--disable --enable recorded")]
    [InlineData("--clear recorded")]
    [InlineData("--remove recorded")]
    [InlineData("--merge other recorded")]
    [InlineData("--merge recorded other")]
    [InlineData("--add --merge other --merge recorded --disable -g 4k new")]
    [InlineData("--clear --merge other recorded")]
    [InlineData("--merge theirs -b SOURCE -F qcow2 recorded")]
    [InlineData("--merge theirs -b SOURCE -f qcow2 recorded")]
    public async Task Bitmap_SameArguments_EndsAsWithQemuImg(string words)
    {
        (string[] ours, string[] theirs) = await PrepareAsync(words);
        await QemuImg.RunAsync(["bitmap", .. theirs]);
        await BlockMountAsync(["bitmap", .. ours]);
        await AssertCleanAsync(this["ours"]);
        await AssertSameInfoAsync(this["ours"]);
        Assert.Equal(
            (await QemuImg.RunAsync("info", "--output", "json", this["theirs"])).Replace(this["theirs"], "", StringComparison.Ordinal).Split("bitmaps")[1].Split(']')[0],
            (await QemuImg.RunAsync("info", "--output", "json", this["ours"])).Replace(this["ours"], "", StringComparison.Ordinal).Split("bitmaps")[1].Split(']')[0]);
        string name = words.Split(' ')[^1];
        if (!words.Contains("--remove", StringComparison.Ordinal))
        {
            Assert.Equal(await QemuBitmap.ReadAsync(this["theirs"], name, 512, 4 << 20), await QemuBitmap.ReadAsync(this["ours"], name, 512, 4 << 20));
        }
    }

    [RequiresTheory(Needs.Release, "qemu-img", "qemu-io", "qemu-nbd", "nbdinfo")]
    [InlineData("recorded")]
    [InlineData("--add recorded")]
    [InlineData("--add -g 100 new")]
    [InlineData("--add -g 1 new")]
    [InlineData("--add -g 4G new")]
    [InlineData("--remove missing")]
    [InlineData("--clear missing")]
    [InlineData("--enable missing")]
    [InlineData("--merge missing recorded")]
    [InlineData("--merge small -b SMALL -F qcow2 recorded")]
    [InlineData("--clear -g 4k recorded")]
    [InlineData("--clear -b SOURCE recorded")]
    public async Task Bitmap_WhatQemuImgRefuses_IsRefusedInItsWords(string words)
    {
        (string[] ours, string[] theirs) = await PrepareAsync(words);
        ToolResult refused = await ToolProcess.RunAsync("qemu-img", ["bitmap", .. theirs]);
        Assert.Equal(1, refused.ExitCode);
        string said = await FailAsync(["bitmap", .. ours]);
        Assert.Contains(refused.Error.Split('\n')[0].Replace("qemu-img: ", "", StringComparison.Ordinal), said, StringComparison.Ordinal);
        await AssertCleanAsync(this["ours"]);
        await AssertSameInfoAsync(this["ours"]);
    }

    // F52: what a killed writer left is inconsistent; it can be seen and removed, nothing else.
    [RequiresFact(Needs.Release, "qemu-img")]
    public async Task Bitmap_LeftInUse_CanOnlyBeRemoved()
    {
        await QemuImg.RunAsync("create", "-q", "-f", "qcow2", this["a"], "4M");
        await QemuImg.RunAsync("bitmap", "--add", this["a"], "b");
        // The last four bytes of the flags in the only directory entry.
        byte[] image = await File.ReadAllBytesAsync(this["a"]);
        int entry = image.AsSpan().IndexOf(new byte[] { 0, 0, 0, 2, 1, 16, 0, 1 });
        image[entry + 3] |= 1;
        await File.WriteAllBytesAsync(this["a"], image);
        await AssertSameInfoAsync(this["a"]);
        Assert.Equal(await QemuImg.RunAsync("info", this["a"]), await BlockMountAsync("info", this["a"]));
        Assert.Contains("is inconsistent and cannot be used", await FailAsync("bitmap", "--disable", this["a"], "b"), StringComparison.Ordinal);
        Assert.Contains("is inconsistent and cannot be used", await FailAsync("bitmap", "--clear", this["a"], "b"), StringComparison.Ordinal);
        await BlockMountAsync("bitmap", "--remove", this["a"], "b");
        await AssertSameInfoAsync(this["a"]);
        await AssertCleanAsync(this["a"]);
    }

    [RequiresFact(Needs.Release, "qemu-img")]
    public async Task Bitmap_OnAnImageWithADataFile_IsStored()
    {
        await QemuImg.RunAsync("create", "-q", "-f", "qcow2", "-o", $"data_file={this["data"]},data_file_raw=on", this["a"], "4M");
        await BlockMountAsync("bitmap", "--add", "-g", "4k", this["a"], "b");
        await AssertSameInfoAsync(this["a"]);
        await AssertCleanAsync(this["a"]);
        await BlockMountAsync("amend", "-o", "refcount_bits=64,lazy_refcounts=on,data_file_raw=off", this["a"]);
        await AssertSameInfoAsync(this["a"]);
        await AssertCleanAsync(this["a"]);
        Assert.Contains("\"data-file-raw\": false", await QemuImg.RunAsync("info", "--output", "json", this["a"]), StringComparison.Ordinal);
    }

    [RequiresFact(Needs.Release, "qemu-img")]
    public async Task Bitmap_OnVersion2OrRaw_IsRefused()
    {
        await QemuImg.RunAsync("create", "-q", "-f", "qcow2", "-o", "compat=0.10", this["v2"], "1M");
        await QemuImg.RunAsync("create", "-q", "-f", "raw", this["raw"], "1M");
        Assert.Contains("Cannot store dirty bitmaps in qcow2 v2 files", await FailAsync("bitmap", "--add", this["v2"], "b"), StringComparison.Ordinal);
        Assert.Contains("Can't store persistent bitmaps", await FailAsync("bitmap", "--add", "-f", "raw", this["raw"], "b"), StringComparison.Ordinal);
    }

    private async Task<(string[] Ours, string[] Theirs)> PrepareAsync(string words)
    {
        foreach ((string name, string size, string bitmap) in new[] { ("ours", "4M", "recorded"), ("SOURCE", "4M", "theirs"), ("SMALL", "1M", "small") })
        {
            await QemuImg.RunAsync("create", "-q", "-f", "qcow2", this[name], size);
            await QemuImg.RunAsync("bitmap", "--add", this[name], bitmap);
            await QemuImg.IoAsync(this[name], name == "ours" ? "write 100k 200k" : "write 600k 8k");
        }

        await QemuImg.RunAsync("bitmap", "--add", "-g", "512", this["ours"], "other");
        await QemuImg.IoAsync(this["ours"], "write 3M 1k", "write 3500k 70k");
        await QemuImg.RunAsync("bitmap", "--disable", this["ours"], "other");
        File.Copy(this["ours"], this["theirs"]);
        string[] Words(string image)
        {
            string[] list = [.. words.Split(' ').Select(word => word is "SOURCE" or "SMALL" ? this[word] : word)];
            return [.. list[..^1], this[image], list[^1]];
        }

        return (Words("ours"), Words("theirs"));
    }
}
