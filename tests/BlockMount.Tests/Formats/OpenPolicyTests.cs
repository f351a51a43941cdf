using System.Diagnostics;
using System.Text.RegularExpressions;
using BlockMount.Base;
using BlockMount.Formats;
using BlockMount.TestSupport;
using Xunit;

namespace BlockMount.Tests.Formats;

/// <summary>RELIABILITY S5 to S10: what an image may refer to.</summary>
public sealed partial class OpenPolicyTests
{
    [Theory]
    [InlineData("json:{\"driver\":\"nbd\"}")]
    [InlineData("json:{}")]
    [InlineData("JSON:{}")]
    [InlineData("nbd:localhost:10809")]
    [InlineData("nbd://localhost/x")]
    [InlineData("nbd+unix:///?socket=/tmp/s")]
    [InlineData("http://localhost/x")]
    [InlineData("https://localhost/x")]
    [InlineData("ftp://localhost/x")]
    [InlineData("ssh://localhost/x")]
    [InlineData("iscsi://localhost/x")]
    [InlineData("rbd:pool/x")]
    [InlineData("nfs://localhost/x")]
    [InlineData("gluster://localhost/x")]
    [InlineData("vvfat:/etc")]
    [InlineData("fat:rw:/etc")]
    [InlineData("blkdebug::base")]
    [InlineData("null-co://")]
    [InlineData("host_device:/dev/sda")]
    [InlineData("fd:3")]
    [InlineData("raw:base")]
    [InlineData("a:b")]
    [InlineData(":b")]
    [InlineData("a b:c/d")]
    [InlineData("")]
    [InlineData("file:")]
    [InlineData("base\0.raw")]
    [InlineData("base\n.raw")]
    [InlineData("\u001b[2Jbase")]
    [InlineData("base\u007f")]
    public void Resolve_NoPlainFileName_IsRefused(string name)
    {
        var e = Assert.Throws<ImageFormatException>(() => new OpenPolicy().ResolveReference("/images/top.qcow2", new BackingReference(name, "raw")));
        Assert.Contains("/images/top.qcow2", e.Message, StringComparison.Ordinal);
        Assert.DoesNotContain(e.Message, char.IsControl);
    }

    [Theory]
    [InlineData("top.qcow2", "base.raw", "base.raw")]
    [InlineData("/images/top.qcow2", "base.raw", "/images/base.raw")]
    [InlineData("images/top.qcow2", "../base.raw", "images/../base.raw")]
    [InlineData("./top.qcow2", "base.raw", "./base.raw")]
    [InlineData("images/top.qcow2", "/other/base.raw", "/other/base.raw")]
    [InlineData("images/top.qcow2", "file:base.raw", "images/base.raw")]
    [InlineData("images/top.qcow2", "file:/other/base.raw", "/other/base.raw")]
    [InlineData("images/top.qcow2", "./a:b", "images/./a:b")]
    [InlineData("images/top.qcow2", "a/b:c", "images/a/b:c")]
    [InlineData("images/top.qcow2", "base ö .raw", "images/base ö .raw")]
    public void Resolve_PlainName_CountsFromTheReferringImage(string referring, string name, string path) =>
        Assert.Equal(path, new OpenPolicy().ResolveReference(referring, new BackingReference(name, "raw")));

    [Fact]
    public void Resolve_ReferencesNotAllowed_IsRefused() => Assert.Throws<ImageFormatException>(
        () => new OpenPolicy { AllowReferences = false }.ResolveReference("top", new BackingReference("base", "raw")));

    [Theory]
    [InlineData("/proc/self/mem")]
    [InlineData("/proc/self/fd/0")]
    [InlineData("/proc/1/environ")]
    [InlineData("/sys/kernel/notes")]
    [InlineData("/dev/null")]
    [InlineData("/dev/zero")]
    [InlineData("/dev/mem")]
    [InlineData("/dev/../dev/zero")]
    [InlineData("/tmp/../proc/version")]
    [InlineData("//proc//version")]
    [InlineData("/tmp")]
    [InlineData("/")]
    public void Check_SpecialTarget_IsRefused(string path) =>
        Assert.ThrowsAny<BlockMountException>(() => new OpenPolicy().CheckReferenced(path));

    [Fact]
    public void Check_LinkToSpecialFile_IsRefused()
    {
        using ScratchFolder folder = new();
        File.CreateSymbolicLink(folder["link"], "/proc/version");
        Directory.CreateSymbolicLink(folder["directory"], "/proc");
        Assert.Throws<ImageFormatException>(() => new OpenPolicy().CheckReferenced(folder["link"]));
        Assert.Throws<ImageFormatException>(() => new OpenPolicy().CheckReferenced(folder["directory/version"]));
    }

    [RequiresToolFact("mkfifo")]
    public async Task Check_Fifo_IsRefusedWithoutWaiting()
    {
        using ScratchFolder folder = new();
        (await ToolProcess.RunAsync("mkfifo", folder["fifo"])).MustSucceed();
        var clock = Stopwatch.StartNew();
        var e = Assert.Throws<ImageFormatException>(() => new OpenPolicy().CheckReferenced(folder["fifo"]));
        Assert.Contains("a FIFO", e.Message, StringComparison.Ordinal);
        Assert.True(clock.Elapsed < TimeSpan.FromSeconds(2));
    }

    [Fact]
    public void Check_SameFileByTwoNames_HasOneIdentity()
    {
        using ScratchFolder folder = new();
        File.WriteAllText(folder["a"], "x");
        File.CreateSymbolicLink(folder["b"], "a");
        OpenPolicy policy = new();
        Assert.Equal(policy.CheckReferenced(folder["a"]), policy.CheckReferenced(folder["b"]));
        Assert.Equal(policy.CheckReferenced(folder["a"]), OpenPolicy.Identify(folder["b"]));
    }

    [Fact]
    public void Check_OutsideAllowedDirectories_IsRefused()
    {
        using ScratchFolder folder = new();
        Directory.CreateDirectory(folder["in"]);
        Directory.CreateDirectory(folder["in2"]);
        File.WriteAllText(folder["in/a"], "x");
        File.WriteAllText(folder["in2/b"], "x");
        File.CreateSymbolicLink(folder["in/link"], "../in2/b");
        OpenPolicy policy = new() { AllowedDirectories = [folder["in"]] };
        policy.CheckReferenced(folder["in/a"]);
        Assert.Throws<ImageFormatException>(() => policy.CheckReferenced(folder["in2/b"]));
        Assert.Throws<ImageFormatException>(() => policy.CheckReferenced(folder["in/link"]));
        Assert.Throws<ImageFormatException>(() => policy.CheckReferenced(folder["in/../in2/b"]));
    }

    [Fact]
    public void Check_MissingTarget_IsENOENT()
    {
        var e = Assert.Throws<BlockIOException>(() => new OpenPolicy().CheckReferenced("/nonexistent/base"));
        Assert.Equal(Errno.ENOENT, e.Errno);
    }

    /// <summary>S10: one of two code paths lacked the check. Here nothing in these projects can open a file but through IStorageOpener.</summary>
    [Theory]
    [InlineData("BlockMount.Formats")]
    [InlineData("BlockMount.Block")]
    public void Sources_FormatsAndBlock_OpenNoFiles(string project)
    {
        Assert.DoesNotContain(SourceTree.FilesIn(Path.Combine("src", project)), path => OpensFiles().IsMatch(File.ReadAllText(path)));
    }

    [GeneratedRegex(@"(?<![.\w])File\.(Open|Read|Write|Create|Append)|IO\.File\.|new FileStream|File\.OpenHandle|Libc\.open|Syscall\.open|PosixStorage|MemoryMappedFile\.")]
    private static partial Regex OpensFiles();
}
