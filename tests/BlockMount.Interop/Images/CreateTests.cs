using BlockMount.TestSupport;
using Xunit;

namespace BlockMount.Interop.Images;

/// <summary>What 'blockmount create' makes, in the eyes of qemu-img.</summary>
public sealed class CreateTests : ImageFixture
{
    [RequiresTheory(Needs.Release, "qemu-img")]
    [InlineData("512")]
    [InlineData("4k")]
    [InlineData("64k")]
    [InlineData("2M")]
    public async Task Create_OptionMatrix_PassesCheckAndInfoAgrees(string clusterSize)
    {
        await QemuImg.RunAsync("create", "-q", "-f", "raw", this["base.raw"], "5M");
        string[] layouts = ["compat=0.10", "refcount_bits=1", "refcount_bits=2", "refcount_bits=8", "refcount_bits=16,lazy_refcounts=on", "refcount_bits=64,compression_type=zstd"];
        string[] contents = ["preallocation=off", "preallocation=metadata", "preallocation=falloc", "preallocation=full", "backing_file=base.raw,backing_fmt=raw"];
        foreach (string layout in layouts)
        {
            foreach (string content in contents)
            {
                string options = $"cluster_size={clusterSize},{layout},{content}";
                string path = this[$"{layout},{content}"];
                await BlockMountAsync("create", "-q", "-f", "qcow2", "-o", options.Replace("base.raw", this["base.raw"], StringComparison.Ordinal), path, "5000k");
                await AssertCleanAsync(path);
                await AssertSameInfoAsync(path);
            }
        }
    }

    [RequiresTheory(Needs.Release, "qemu-img")]
    [InlineData("-f", "raw", "a", "1000")]
    [InlineData("-f", "raw", "-o", "preallocation=full", "a", "1M")]
    [InlineData("-f", "qcow2", "a", "10G")]
    [InlineData("-f", "qcow2", "-o", "compat=0.10", "a", "1.5T")]
    [InlineData("-f", "qcow2", "-o", "preallocation=metadata,cluster_size=4k,refcount_bits=8,lazy_refcounts=on", "a", "10M")]
    [InlineData("-f", "raw", "-o", "nocow=off,extent_size_hint=2M,preallocation=falloc", "a", "1M")]
    [InlineData("-f", "qcow2", "-o", "extended_l2=on,preallocation=metadata,nocow=on", "a", "64M")]
    [InlineData("-f", "qcow2", "-o", "encryption=off,data_file=d,extent_size_hint=0", "a", "64M")]
    [InlineData("-f", "qcow2", "-o", "data_file=d,data_file_raw=on,compat=v3", "a", "64M")]
    [InlineData("-f", "qcow2", "-o", "data_file_raw=off,extended_l2=off", "a", "64M")]
    [InlineData("-f", "qcow2", "-b", "base", "-F", "qcow2", "-o", "extended_l2=on,preallocation=falloc,data_file=d", "a", "20M")]
    [InlineData("-f", "qcow2", "-b", "base", "-F", "qcow2", "a")]
    [InlineData("-f", "qcow2", "-b", "base", "-F", "qcow2", "-o", "compat=v3", "a", "20M")]
    [InlineData("-f", "qcow2", "-o", "backing_file=base,backing_fmt=qcow2,compat=0.10", "a")]
    [InlineData("-f", "qcow2", "-u", "-b", "missing", "-F", "raw", "a", "20M")]
    [InlineData("-f", "qcow2", "-u", "-b", "with,comma", "-F", "raw", "-o", "cluster_size=2M", "a", "20M")]
    public async Task Create_SameArguments_EchoTheSameLineAndDiskAsQemuImg(params string[] arguments)
    {
        await QemuImg.RunAsync("create", "-q", "-f", "qcow2", this["base"], "3M");
        string theirs = (await InFolderAsync("qemu-img", ["create", .. arguments])).MustSucceed().Output;
        File.Move(this["a"], this["theirs"]);
        string ours = (await InFolderAsync(ReleaseBinary.FullPath, ["create", .. arguments])).MustSucceed().Output;
        Assert.Equal(theirs, ours);
        if (!arguments.Contains("-u"))
        {
            (await InFolderAsync("qemu-img", ["compare", "theirs", "a"])).MustSucceed();
        }
    }

    [RequiresTheory(Needs.Release, "qemu-img")]
    [InlineData("64k", "16", "200G")]
    [InlineData("512", "64", "300M")]
    [InlineData("512", "1", "300M")]
    [InlineData("1k", "32", "700M")]
    [InlineData("2M", "64", "4T")]
    public async Task Create_LargePreallocation_HasRoomForItsRefcounts(string clusterSize, string refcountBits, string size)
    {
        string path = this["large"];
        await BlockMountAsync("create", "-q", "-f", "qcow2", "-o", $"preallocation=metadata,cluster_size={clusterSize},refcount_bits={refcountBits}", path, size);
        await AssertCleanAsync(path);
    }

    [RequiresFact(Needs.Release, "qemu-img")]
    public async Task Create_LargestDiskOfSmallClusters_PassesCheck()
    {
        await BlockMountAsync("create", "-q", "-f", "qcow2", "-o", "cluster_size=512", this["a"], "128G");
        await AssertCleanAsync(this["a"]);
        await AssertSameInfoAsync(this["a"]);
        Assert.Contains("too large", await FailAsync("create", "-f", "qcow2", "-o", "cluster_size=512", this["b"], "129G"), StringComparison.Ordinal);
    }

    [RequiresFact(Needs.Release, "qemu-img", "qemu-io")]
    public async Task Create_ThenWrittenByQemu_StaysClean()
    {
        string path = this["a"];
        await BlockMountAsync("create", "-q", "-f", "qcow2", "-o", "preallocation=metadata,cluster_size=4k", path, "8M");
        await QemuImg.IoAsync(path, "read -P 0 0 8M", "write -P 5 1000k 100k", "read -P 5 1000k 100k", "discard 0 4M", "write -P 6 8191k 1k");
        await AssertCleanAsync(path);
    }

    [RequiresFact(Needs.Release, "qemu-img")]
    public async Task Create_BackingWithoutFormat_IsRecordedAsQcow2AndNeverAsRaw()
    {
        await BlockMountAsync("create", "-q", "-f", "qcow2", this["base"], "3M");
        Assert.Contains("backing_fmt=qcow2", await BlockMountAsync("create", "-f", "qcow2", "-b", "base", this["a"]), StringComparison.Ordinal);
        await AssertSameInfoAsync("--backing-chain", this["a"]);

        await BlockMountAsync("create", "-q", this["disk.raw"], "3M");
        Assert.Contains("-F raw", await FailAsync("create", "-f", "qcow2", "-b", "disk.raw", this["b"]), StringComparison.Ordinal);
        Assert.Contains("-F raw", await FailAsync("create", "-f", "qcow2", "-u", "-b", "base", this["b"], "1M"), StringComparison.Ordinal);
        Assert.False(File.Exists(this["b"]));
    }

    [RequiresTheory(Needs.Release)]
    [InlineData("Unknown file format 'vmdk'", "-f", "vmdk", "OLD", "1M")]
    [InlineData("Invalid parameter 'foo'", "-f", "qcow2", "-o", "foo=1", "OLD", "1M")]
    [InlineData("Invalid parameter 'cluster_size'", "-o", "cluster_size=4k", "OLD", "1M")]
    [InlineData("does not accept value 'maybe'", "-f", "qcow2", "-o", "lazy_refcounts=maybe", "OLD", "1M")]
    [InlineData("does not accept value '2.0'", "-f", "qcow2", "-o", "compat=2.0", "OLD", "1M")]
    [InlineData("does not accept value 'some'", "-f", "qcow2", "-o", "preallocation=some", "OLD", "1M")]
    [InlineData("need compat=1.1", "-f", "qcow2", "-o", "extended_l2=on,compat=0.10", "OLD", "1M")]
    [InlineData("need clusters of at least 16384 bytes", "-f", "qcow2", "-o", "extended_l2=on,cluster_size=8k", "OLD", "1M")]
    [InlineData("need compat=1.1", "-f", "qcow2", "-o", "data_file=x,compat=v2", "OLD", "1M")]
    [InlineData("data_file_raw needs a data_file", "-f", "qcow2", "-o", "data_file_raw=on", "OLD", "1M")]
    [InlineData("cannot be used together", "-f", "qcow2", "-b", "other", "-F", "raw", "-o", "data_file=x,data_file_raw=on", "OLD", "1M")]
    [InlineData("cannot be used together", "-f", "qcow2", "-b", "other", "-F", "raw", "-o", "data_file=x,preallocation=metadata", "OLD", "1M")]
    [InlineData("the same file", "-f", "qcow2", "-o", "data_file=old", "OLD", "1M")]
    [InlineData("the same file", "-f", "qcow2", "-o", "data_file=./sub/../old", "OLD", "1M")]
    [InlineData("the same file", "-f", "qcow2", "-b", "other", "-F", "raw", "-o", "data_file=other", "OLD", "1M")]
    [InlineData("protocol", "-f", "qcow2", "-o", "data_file=nbd:localhost", "OLD", "1M")]
    [InlineData("refused", "-f", "qcow2", "-o", "data_file=/proc/version", "OLD", "1M")]
    [InlineData("refused", "-f", "qcow2", "-o", "data_file=", "OLD", "1M")]
    [InlineData("No such file", "-f", "qcow2", "-o", "data_file=missing/x", "OLD", "1M")]
    [InlineData("too large", "-f", "qcow2", "-o", "extent_size_hint=5G", "OLD", "1M")]
    [InlineData("too large", "-f", "qcow2", "-o", "cluster_size=16k,extended_l2=on", "OLD", "65T")]
    [InlineData("does not accept value 'maybe'", "-f", "qcow2", "-o", "nocow=maybe", "OLD", "1M")]
    [InlineData("not supported yet", "-f", "qcow2", "-o", "encrypt.format=luks", "OLD", "1M")]
    [InlineData("needs a size", "-f", "qcow2", "OLD")]
    [InlineData("Invalid image size", "OLD", "12Q")]
    [InlineData("Invalid image size", "OLD", "1.5")]
    [InlineData("power of two", "-f", "qcow2", "-o", "cluster_size=5000", "OLD", "1M")]
    [InlineData("need compat=1.1", "-f", "qcow2", "-o", "compat=0.10,refcount_bits=8", "OLD", "1M")]
    [InlineData("No such file", "-f", "qcow2", "-b", "missing", "-F", "raw", "OLD", "1M")]
    [InlineData("same filename", "-f", "qcow2", "-b", "old", "-F", "raw", "OLD", "1M")]
    [InlineData("not in qcow2 format", "-f", "qcow2", "-b", "other", "-F", "qcow2", "OLD", "1M")]
    [InlineData("protocol", "-f", "qcow2", "-b", "nbd:localhost", "-F", "raw", "OLD", "1M")]
    [InlineData("refused", "-f", "qcow2", "-b", "/proc/version", "-F", "raw", "OLD", "1M")]
    [InlineData("cannot be used together", "-f", "qcow2", "-b", "other", "-F", "raw", "-o", "preallocation=full", "OLD", "1M")]
    [InlineData("not supported for file format 'raw'", "-b", "other", "-F", "raw", "OLD", "1M")]
    public async Task Create_WrongRequest_LeavesAnExistingImageAlone(string words, params string[] arguments)
    {
        await File.WriteAllTextAsync(this["old"], "precious");
        await File.WriteAllTextAsync(this["other"], "something");
        string error = await FailAsync(["create", .. arguments.Select(argument => argument == "OLD" ? this["old"] : argument)]);
        Assert.Contains(words, error, StringComparison.Ordinal);
        Assert.Equal("precious", await File.ReadAllTextAsync(this["old"]));
        Assert.Equal(2, Directory.GetFileSystemEntries(Folder).Length);
    }

    [RequiresFact(Needs.Release)]
    public async Task Create_OverExistingFileThroughALink_KeepsLinkAndMode()
    {
        await File.WriteAllTextAsync(this["old"], "x");
        File.SetUnixFileMode(this["old"], UnixFileMode.UserRead | UnixFileMode.UserWrite);
        File.CreateSymbolicLink(this["link"], "old");
        await BlockMountAsync("create", "-q", "-f", "qcow2", this["link"], "1M");
        Assert.Equal("old", new FileInfo(this["link"]).LinkTarget);
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(this["old"]));
        Assert.Equal("QFI"u8.ToArray(), (await File.ReadAllBytesAsync(this["old"]))[..3]);
    }

    [RequiresFact(Needs.Release)]
    public async Task Create_ImpossibleTarget_IsRefusedAndLeavesNothing()
    {
        Directory.CreateDirectory(this["directory"]);
        File.CreateSymbolicLink(this["dangling"], "nowhere");
        Assert.Contains("Is a directory", await FailAsync("create", this["directory"], "1M"), StringComparison.Ordinal);
        Assert.Contains("No such file", await FailAsync("create", this["missing/a"], "1M"), StringComparison.Ordinal);
        Assert.Contains("symbolic link to 'nowhere'", await FailAsync("create", this["dangling"], "1M"), StringComparison.Ordinal);
        Assert.Contains("a character device", await FailAsync("create", "/dev/null", "1M"), StringComparison.Ordinal);
        Assert.Equal(2, Directory.GetFileSystemEntries(Folder).Length);
    }

    private Task<ToolResult> InFolderAsync(string program, string[] arguments) =>
        ToolProcess.RunAsync("/usr/bin/env", ["-C", Folder, program, .. arguments]);
}
