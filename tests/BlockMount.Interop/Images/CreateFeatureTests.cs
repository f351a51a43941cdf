using System.Text.Json.Nodes;
using BlockMount.TestSupport;
using Xunit;

namespace BlockMount.Interop.Images;

/// <summary>Subclusters, external data files and preallocation, made by both tools from the same words and compared by qemu-img.</summary>
public sealed class CreateFeatureTests : ImageFixture
{
    private static readonly string[] s_features =
    [
        "extended_l2=on",
        "extended_l2=on,backing_file=base,backing_fmt=qcow2",
        "data_file=data",
        "data_file=data,data_file_raw=on",
        "data_file=data,extended_l2=on",
        "data_file=data,data_file_raw=on,extended_l2=on,compression_type=zstd",
        "data_file=data,backing_file=base,backing_fmt=qcow2",
        "data_file=data,extended_l2=on,backing_file=base,backing_fmt=qcow2,lazy_refcounts=on",
    ];

    private static readonly string[] s_preallocations = ["off", "metadata", "falloc", "full"];

    [RequiresTheory(Needs.Release, "qemu-img", "qemu-io")]
    [InlineData("16k", "1")]
    [InlineData("64k", "16")]
    [InlineData("2M", "64")]
    public async Task Create_EveryFeatureWithEveryPreallocation_EqualsQemuImgs(string clusterSize, string refcountBits)
    {
        foreach (string tool in new[] { "theirs", "ours" })
        {
            Directory.CreateDirectory(this[tool]);
            await QemuImg.RunAsync("create", "-q", "-f", "qcow2", this[$"{tool}/base"], "3M");
            await QemuImg.IoAsync(this[$"{tool}/base"], "write -P 7 100k 2M");
        }

        foreach (string feature in s_features)
        {
            foreach (string preallocation in s_preallocations)
            {
                string options = $"cluster_size={clusterSize},refcount_bits={refcountBits},{feature},preallocation={preallocation}";
                ToolResult theirs = await InAsync("theirs", "qemu-img", "create", "-f", "qcow2", "-o", options, "a", "5000k");
                ToolResult ours = await InAsync("ours", ReleaseBinary.FullPath, "create", "-f", "qcow2", "-o", options, "a", "5000k");
                Assert.True(theirs.ExitCode == ours.ExitCode, $"{options}\n{theirs.Error}\n{ours.Error}");
                if (ours.ExitCode == 0)
                {
                    Assert.Equal(theirs.Output, ours.Output);
                    await AssertEqualAsync(options);
                }

                File.Delete(this["theirs/data"]);
                File.Delete(this["ours/data"]);
                File.Delete(this["ours/a"]);
            }
        }
    }

    [RequiresFact(Needs.Release, "qemu-img")]
    public async Task Create_ExistingDataFile_IsReplacedByZerosAsQemuImgDoes()
    {
        await File.WriteAllTextAsync(this["d"], "precious");
        await BlockMountAsync("create", "-q", "-f", "qcow2", "-o", "data_file=d,data_file_raw=on", this["a"], "1M");
        byte[] data = await File.ReadAllBytesAsync(this["d"]);
        Assert.Equal(1 << 20, data.Length);
        Assert.DoesNotContain(data, value => value != 0);
        // Two entries: nothing temporary is left.
        Assert.Equal(2, Directory.GetFileSystemEntries(Folder).Length);
    }

    [RequiresFact(Needs.Release, "qemu-img", "qemu-io")]
    public async Task Create_WithDataFile_QemuWritesAndReadsIt()
    {
        (await InAsync("", ReleaseBinary.FullPath, "create", "-q", "-f", "qcow2", "-o", "data_file=d,data_file_raw=on,extended_l2=on", "a", "5M")).MustSucceed();
        (await InAsync("", "qemu-io", "-f", "qcow2", "-c", "write -P 9 1000k 700k", "-c", "read -P 9 1000k 700k", "a")).MustSucceed();
        (await InAsync("", "qemu-img", "check", "a")).MustSucceed();
        (await InAsync("", "qemu-img", "compare", "-f", "qcow2", "-F", "raw", "a", "d")).MustSucceed();
    }

    private async Task AssertEqualAsync(string options)
    {
        JsonNode ours = await JsonAsync("ours", "check");
        JsonNode theirs = await JsonAsync("theirs", "check");
        foreach (string field in new[] { "check-errors", "leaks", "corruptions", "allocated-clusters", "total-clusters", "fragmented-clusters" })
        {
            Assert.True($"{ours[field]}" == $"{theirs[field]}", $"{options}: {field}\n{ours}\n{theirs}");
        }

        ours = await JsonAsync("ours", "info");
        theirs = await JsonAsync("theirs", "info");
        foreach (JsonNode node in new[] { ours, theirs })
        {
            // Where the tables lie and how sparse they are is each tool's own affair.
            node.AsObject().Remove("actual-size");
        }

        Assert.True(JsonNode.DeepEquals(ours, theirs), $"{options}\n{ours}\n{theirs}");
        await AssertSameInfoAsync(this["ours/a"]);
        (await InAsync("ours", "qemu-img", "convert", "-O", "raw", "a", "content")).MustSucceed();
        (await InAsync("theirs", "qemu-img", "compare", "-F", "raw", "a", "../ours/content")).MustSucceed();
        if (options.Contains("data_file", StringComparison.Ordinal))
        {
            // With preallocation qemu-img's has the rest of the last cluster, too; as a raw image that is another disk.
            Assert.Equal(5000 << 10, new FileInfo(this["ours/data"]).Length);
            Assert.InRange(new FileInfo(this["theirs/data"]).Length, 5000 << 10, 6 << 20);
        }
    }

    private async Task<JsonNode> JsonAsync(string folder, string verb) =>
        JsonNode.Parse((await InAsync(folder, "qemu-img", verb, "-f", "qcow2", "--output", "json", "a")).MustSucceed().Output)!;

    private Task<ToolResult> InAsync(string folder, string program, params string[] arguments) =>
        ToolProcess.RunAsync("/usr/bin/env", ["-C", this[folder], program, .. arguments]);
}
