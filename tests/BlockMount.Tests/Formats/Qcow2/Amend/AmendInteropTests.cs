using System.Globalization;
using System.Text.Json.Nodes;
using BlockMount.Formats;
using BlockMount.Formats.Qcow2.Amend;
using BlockMount.TestSupport;
using Xunit;

namespace BlockMount.Tests.Formats.Qcow2.Amend;

/// <summary>Images of QEMU are amended step by step; after each step QEMU finds them clean, reads the same and says of them what it says after its own amend.</summary>
public sealed class AmendInteropTests
{
    private const long Size = 4 << 20;

    [RequiresTheory(Needs.None, "qemu-img", "qemu-io")]
    [InlineData("data", "refcount_bits=64 refcount_bits=1 lazy_refcounts=on refcount_bits=16 compat=0.10 compat=1.1 refcount_bits=2 refcount_bits=32")]
    [InlineData("snapshots", "refcount_bits=8 refcount_bits=4 refcount_bits=16 lazy_refcounts=on compat=0.10 compat=1.1,lazy_refcounts=on,refcount_bits=32 lazy_refcounts=off")]
    [InlineData("compressed", "refcount_bits=64 refcount_bits=16,compat=0.10 compat=1.1,refcount_bits=8")]
    [InlineData("backing", "refcount_bits=32 refcount_bits=16,compat=0.10 compat=1.1,refcount_bits=8 lazy_refcounts=on")]
    [InlineData("subclusters", "refcount_bits=64 refcount_bits=4 lazy_refcounts=on refcount_bits=16")]
    [InlineData("zstd", "refcount_bits=32 lazy_refcounts=on refcount_bits=8")]
    public async Task Amend_StepByStep_AgreesWithQemu(string kind, string steps)
    {
        using ScratchFolder folder = new();
        string[] snapshots = await CreateAsync(folder, kind);
        File.Copy(folder["image"], folder["theirs"]);
        List<string> contents = await ContentsAsync(folder, folder["image"], snapshots);
        foreach (string step in steps.Split(' '))
        {
            MemoryFile file = await QemuImg.LoadAsync(folder["image"]);
            AmendOptions options = Parse(step);
            await Qcow2Amend.ApplyAsync(file, options);
            if (options.Version == 2)
            {
                await Qcow2Amend.DowngradeAsync(file);
            }

            await QemuImg.SaveAsync(folder["image"], file.ToArray());
            await QemuImg.RunAsync("amend", "-o", step, folder["theirs"]);
            QemuImg.Verdict verdict = await QemuImg.CheckAsync(folder["image"]);
            Assert.True(verdict.ExitCode == 0, $"{step}: {verdict.Text}");
            Assert.Equal(await InfoAsync(folder["theirs"]), await InfoAsync(folder["image"]));
            Assert.Equal(contents, await ContentsAsync(folder, folder["image"], snapshots));
        }
    }

    [RequiresTheory(Needs.None, "qemu-img", "qemu-io")]
    [InlineData("compat=1.1", "backing_file=x")]
    [InlineData("compat=1.1", "refcount_bits=3")]
    [InlineData("compat=1.1", "refcount_bits=128")]
    [InlineData("compat=1.1", "data_file=x")]
    [InlineData("compat=1.1", "data_file_raw=on")]
    [InlineData("compat=1.1", "compat=0.10,refcount_bits=1")]
    [InlineData("compat=1.1", "compat=0.10,lazy_refcounts=on")]
    [InlineData("refcount_bits=64", "compat=0.10")]
    [InlineData("compat=0.10", "refcount_bits=8")]
    [InlineData("compat=0.10", "lazy_refcounts=on")]
    [InlineData("extended_l2=on", "compat=0.10")]
    [InlineData("data_file=data", "compat=0.10")]
    [InlineData("snapshot", "refcount_bits=1")]
    [InlineData("other size", "compat=0.10")]
    public async Task Amend_WhatQemuRefuses_IsRefusedInItsWords(string creation, string step)
    {
        using ScratchFolder folder = new();
        string path = folder["image"];
        string creationOptions = creation.Contains('=', StringComparison.Ordinal) ? creation : "compat=1.1";
        // A relative name of a data file counts from the working directory here.
        creationOptions = creationOptions.Replace("data_file=data", $"data_file={folder["data"]}", StringComparison.Ordinal);
        await QemuImg.RunAsync("create", "-q", "-f", "qcow2", "-o", creationOptions, path, "1M");
        if (creation is "snapshot" or "other size")
        {
            await QemuImg.IoAsync(path, "write 0 64k");
            await QemuImg.RunAsync("snapshot", "-c", "s", path);
        }

        if (creation == "other size")
        {
            await QemuImg.RunAsync("resize", "-q", path, "2M");
        }

        ToolResult theirs = await ToolProcess.RunAsync("qemu-img", "amend", "-o", step, path);
        Assert.Equal(1, theirs.ExitCode);
        byte[] before = await File.ReadAllBytesAsync(path);
        MemoryFile file = new("image", readOnly: false, before);
        ImageFormatException error = await Assert.ThrowsAsync<ImageFormatException>(async () =>
        {
            await Qcow2Amend.ApplyAsync(file, Parse(step));
            await Qcow2Amend.DowngradeAsync(file);
        });
        Assert.Equal(before, file.ToArray());
        string words = theirs.Error.Split('\n')[0].Replace("qemu-img: ", "", StringComparison.Ordinal);
        // The names of features and of data files are said in addition, or come from the check at opening.
        Assert.True(
            error.Message.StartsWith(words, StringComparison.Ordinal) || error.Message.Contains("Unsupported qcow2 feature", StringComparison.Ordinal),
            $"'{error.Message}' instead of '{words}'");
    }

    // Bitmaps would be lost: QEMU does that without a word.
    [RequiresFact(Needs.None, "qemu-img")]
    public async Task Downgrade_WithBitmaps_IsRefusedAndRefcountWidthKeepsThem()
    {
        using ScratchFolder folder = new();
        string path = folder["image"];
        await QemuImg.RunAsync("create", "-q", "-f", "qcow2", path, "1M");
        await QemuImg.RunAsync("bitmap", "--add", path, "b");
        MemoryFile file = await QemuImg.LoadAsync(path);
        await Assert.ThrowsAsync<ImageFormatException>(async () => await Qcow2Amend.ApplyAsync(file, new AmendOptions { Version = 2 }));
        await Assert.ThrowsAsync<ImageFormatException>(async () => await Qcow2Amend.DowngradeAsync(file));
        await Qcow2Amend.ApplyAsync(file, new AmendOptions { RefcountBits = 1, LazyRefcounts = true });
        await QemuImg.SaveAsync(path, file.ToArray());
        Assert.Equal(0, (await QemuImg.CheckAsync(path)).ExitCode);
        Assert.Contains("\"name\": \"b\"", await QemuImg.RunAsync("info", "--output", "json", path), StringComparison.Ordinal);
    }

    // Enough blocks to need several clusters of table, and holes between them.
    [RequiresTheory(Needs.None, "qemu-img", "qemu-io")]
    [InlineData(64)]
    [InlineData(1)]
    public async Task RefcountWidth_ManyBlocks_IsClean(int bits)
    {
        using ScratchFolder folder = new();
        string path = folder["image"];
        await QemuImg.RunAsync("create", "-q", "-f", "qcow2", "-o", "cluster_size=512", path, "64M");
        await QemuImg.IoAsync(path, "write -P 1 0 5M", "write -P 2 20M 3M");
        MemoryFile file = await QemuImg.LoadAsync(path);
        await Qcow2Amend.ApplyAsync(file, new AmendOptions { RefcountBits = bits });
        await Qcow2Amend.ApplyAsync(file, new AmendOptions { RefcountBits = bits == 1 ? 32 : 2 });
        await QemuImg.SaveAsync(path, file.ToArray());
        QemuImg.Verdict verdict = await QemuImg.CheckAsync(path);
        Assert.True(verdict.ExitCode == 0, verdict.Text);
        await QemuImg.IoAsync(path, "read -P 1 0 5M", "read -P 2 20M 3M", "write -P 3 40M 2M");
        Assert.Equal(0, (await QemuImg.CheckAsync(path)).ExitCode);
    }

    private static async Task<string[]> CreateAsync(ScratchFolder folder, string kind)
    {
        string path = folder["image"];
        if (kind is "compressed" or "zstd")
        {
            string type = kind == "zstd" ? "zstd" : "zlib";
            await QemuImg.SaveAsync(folder["raw"], Enumerable.Range(0, (int)Size).Select(i => (byte)(i / 700)).ToArray());
            await QemuImg.RunAsync("convert", "-c", "-f", "raw", "-O", "qcow2", "-o", $"cluster_size=4096,compression_type={type}", folder["raw"], path);
            return [];
        }

        string layout = kind == "subclusters" ? "cluster_size=16384,extended_l2=on" : "cluster_size=4096";
        List<string> create = ["create", "-q", "-f", "qcow2", "-o", layout, path, QemuImg.Bytes(Size)];
        if (kind == "backing")
        {
            await QemuImg.SaveAsync(folder["base"], Enumerable.Range(0, (int)Size).Select(i => (byte)(i / 300)).ToArray());
            create.InsertRange(1, ["-b", folder["base"], "-F", "raw"]);
        }

        await QemuImg.RunAsync([.. create]);
        await QemuImg.IoAsync(path, "write -P 1 0 100k", "write -z 200k 64k", "write -z -u 300k 64k", "write -P 2 1M 200k", "write -z 1M 40k", "write -z -u 1100k 8k");
        if (kind == "data")
        {
            return [];
        }

        await QemuImg.RunAsync("snapshot", "-c", "first", path);
        await QemuImg.IoAsync(path, "write -P 3 50k 30k", "write -z 1060k 50k", "write -P 4 2M 10k", "write -z 210k 10k");
        await QemuImg.RunAsync("snapshot", "-c", "second", path);
        await QemuImg.IoAsync(path, "write -z 0 8k", "write -P 5 210k 4k");
        return ["first", "second"];
    }

    private static async Task<List<string>> ContentsAsync(ScratchFolder folder, string path, string[] snapshots)
    {
        List<string> hashes = [Hash(await QemuImg.ReadGuestAsync(path, folder["guest"]))];
        foreach (string name in snapshots)
        {
            await QemuImg.RunAsync("convert", "-f", "qcow2", "-l", $"snapshot.name={name}", "-O", "raw", path, folder["guest"]);
            hashes.Add(Hash(await File.ReadAllBytesAsync(folder["guest"])));
        }

        return hashes;
    }

    private static string Hash(byte[] content) => Convert.ToHexString(System.Security.Cryptography.SHA256.HashData(content));

    private static async Task<string> InfoAsync(string path)
    {
        JsonObject info = JsonNode.Parse(await QemuImg.RunAsync("info", "--output", "json", path))!.AsObject();
        foreach (string name in new[] { "filename", "actual-size", "children" })
        {
            info.Remove(name);
        }

        return info.ToJsonString();
    }

    private static AmendOptions Parse(string step)
    {
        var options = new AmendOptions();
        foreach (string word in step.Split(','))
        {
            string value = word[(word.IndexOf('=', StringComparison.Ordinal) + 1)..];
            options = word[..word.IndexOf('=', StringComparison.Ordinal)] switch
            {
                "compat" => options with { Version = value == "0.10" ? 2 : 3 },
                "refcount_bits" => options with { RefcountBits = long.Parse(value, CultureInfo.InvariantCulture) },
                "lazy_refcounts" => options with { LazyRefcounts = value == "on" },
                "data_file" => options with { DataFile = value },
                "data_file_raw" => options with { DataFileRaw = value == "on" },
                "backing_file" => options with { BackingFile = value },
                string other => throw new ArgumentException(other),
            };
        }

        return options;
    }
}
