using System.Text.RegularExpressions;
using BlockMount.TestSupport;
using Microsoft.Win32.SafeHandles;
using Xunit;

namespace BlockMount.Tests.Storage;

/// <summary>
/// The flushes of .NET's files swallow errors of fsync: a test would believe in what is not on disk, and so would the product. Tests flush through
/// <see cref="CheckedFlush"/>, the product through its own storage.
/// </summary>
public sealed partial class FlushSourceTests
{
    [Theory]
    [InlineData("src")]
    [InlineData("tests")]
    public void Sources_NeverFlushThroughDotNet(string folder)
    {
        string[] files = [.. SourceTree.FilesIn(folder)];
        Assert.True(files.Length > 100, $"only {files.Length} files: the scan looks in the wrong place");
        Assert.Empty(files.Where(path => FlushesToDisk().IsMatch(File.ReadAllText(path))).Select(path => Path.GetRelativePath(SourceTree.Root, path)));
    }

    // In pieces, so that this file is not among the offenders.
    [Theory]
    [InlineData("disk.Flush(", "true);")]
    [InlineData("disk.Flush(\n    ", "true)")]
    [InlineData("disk?.Flush(flush", "ToDisk: true)")]
    [InlineData("disk.Flush(flush", "ToDisk : durable)")]
    [InlineData("RandomAccess.Flush", "ToDisk(handle)")]
    [InlineData("Attempt(handle, RandomAccess.Flush", "ToDisk)")]
    public void Scan_SeesEveryWayToWriteIt(string start, string end) => Assert.Matches(FlushesToDisk(), start + end);

    [Theory]
    [InlineData("await driver.FlushAsync();")]
    [InlineData("writer.Flush();")]
    [InlineData("CheckedFlush.Run(disk.SafeFileHandle);")]
    public void Scan_LeavesOtherFlushesAlone(string line) => Assert.DoesNotMatch(FlushesToDisk(), line);

    [Fact]
    public void CheckedFlush_FileThatCannotBeFlushed_ThrowsTheErrno()
    {
        const int EINVAL = 22;
        using SafeFileHandle device = File.OpenHandle("/dev/null", FileMode.Open, FileAccess.Write, FileShare.ReadWrite);
        Assert.Equal(EINVAL, Assert.Throws<IOException>(() => CheckedFlush.Run(device)).HResult);
    }

    [Fact]
    public void CheckedFlush_File_Returns()
    {
        using ScratchFolder folder = new();
        using SafeFileHandle file = File.OpenHandle(folder["a"], FileMode.CreateNew, FileAccess.Write);
        RandomAccess.Write(file, [1, 2, 3], 0);
        CheckedFlush.Run(file);
    }

    [GeneratedRegex(@"\bFlush\(\s*true\b|\bflushToDisk\s*:|\bFlushToDisk\b")]
    private static partial Regex FlushesToDisk();
}
