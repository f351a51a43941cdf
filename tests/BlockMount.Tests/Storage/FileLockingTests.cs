using BlockMount.Base;
using BlockMount.Storage;
using Xunit;

namespace BlockMount.Tests.Storage;

/// <summary>FEATURES K2-K11 between our own opens; against QEMU see the interop tests.</summary>
public sealed class FileLockingTests : IDisposable
{
    private static readonly StorageOpenOptions s_write = new();
    private static readonly StorageOpenOptions s_read = new() { ReadOnly = true };
    private static readonly StorageOpenOptions s_sharedWrite = new() { ShareWrite = true };
    private static readonly StorageOpenOptions s_sharedRead = new() { ReadOnly = true, ShareWrite = true };
    private static readonly StorageOpenOptions s_forced = new() { ReadOnly = true, ForceShare = true };

    private readonly TemporaryFolder _folder = new();

    public static TheoryData<string, string, string?> Matrix => new()
    {
        { "write", "write", "Failed to get \"write\" lock" },
        { "write", "read", "Failed to get shared \"write\" lock" },
        { "read", "write", "Failed to get \"write\" lock" },
        { "read", "read", null },
        { "write", "forced", null },
        { "forced", "write", null },
        { "forced", "read", null },
        { "shared write", "shared write", null },
        { "shared write", "write", "Failed to get \"resize\" lock" },
        { "write", "shared write", "Failed to get \"write\" lock" },
        { "shared write", "read", "Failed to get shared \"write\" lock" },
        { "shared write", "shared read", null },
        { "shared read", "shared write", null },
        { "shared read", "write", "Failed to get \"resize\" lock" },
    };

    public void Dispose() => _folder.Dispose();

    [Theory]
    [MemberData(nameof(Matrix))]
    public async Task Open_BesideAnotherUser_IsAdmittedOrRefusedAsQemuDoes(string first, string second, string? expected)
    {
        string path = _folder.Create("image", new byte[65536]);
        await using StorageFile holder = await PosixStorage.Instance.OpenAsync(path, Options(first));
        if (expected is null)
        {
            await using StorageFile other = await PosixStorage.Instance.OpenAsync(path, Options(second));
            return;
        }

        BlockMountException error = await Assert.ThrowsAsync<BlockMountException>(async () => await PosixStorage.Instance.OpenAsync(path, Options(second)));
        Assert.StartsWith($"Could not open '{path}': {expected}", error.Message, StringComparison.Ordinal);
        Assert.Contains($"process {Environment.ProcessId} (", error.Message, StringComparison.Ordinal);
        Assert.Contains("Is another process using the image", error.Hint, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Open_Refused_LeavesNoLockBehind()
    {
        string path = _folder.Create("image", new byte[65536]);
        StorageFile reader = await PosixStorage.Instance.OpenAsync(path, s_read);
        await Assert.ThrowsAsync<BlockMountException>(async () => await PosixStorage.Instance.OpenAsync(path, s_write));
        await using StorageFile second = await PosixStorage.Instance.OpenAsync(path, s_read);
        await reader.DisposeAsync();
        await second.DisposeAsync();
        await using StorageFile writer = await PosixStorage.Instance.OpenAsync(path, s_write);
        Assert.False(writer.ReadOnly);
    }

    [Fact]
    public async Task Open_ForceShareForWriting_IsRefused()
    {
        string path = _folder.Create("image", new byte[512]);
        BlockMountException error = await Assert.ThrowsAsync<BlockMountException>(
            async () => await PosixStorage.Instance.OpenAsync(path, new StorageOpenOptions { ForceShare = true }));
        Assert.Contains("read-only", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Create_OverAFileInUse_ChangesNothing()
    {
        byte[] content = [1, 2, 3, 4];
        string path = _folder.Create("image", content);
        await using StorageFile reader = await PosixStorage.Instance.OpenAsync(path, s_read);
        BlockMountException error = await Assert.ThrowsAsync<BlockMountException>(
            async () => await PosixStorage.Instance.CreateAsync(path, new StorageCreateOptions { Overwrite = true, Length = 100 }));
        Assert.Contains("Failed to get \"write\" lock", error.Message, StringComparison.Ordinal);
        Assert.Equal(content, await File.ReadAllBytesAsync(path));
    }

    [Fact]
    public async Task Create_OverAnUnusedFile_EmptiesItAndIsLockedForWriting()
    {
        string path = _folder.Create("image", [1, 2, 3, 4]);
        await using StorageFile file = await PosixStorage.Instance.CreateAsync(path, new StorageCreateOptions { Overwrite = true, Length = 1000 });
        Assert.Equal(1000, file.Length);
        byte[] content = new byte[4];
        await file.ReadAsync(0, content);
        Assert.Equal(new byte[4], content);
        await Assert.ThrowsAsync<BlockMountException>(async () => await PosixStorage.Instance.OpenAsync(path, s_read));
    }

    [Fact]
    public async Task Create_ExistingFileWithoutOverwrite_IsRefusedAndKept()
    {
        string path = _folder.Create("image", [1, 2, 3, 4]);
        BlockMountException error = await Assert.ThrowsAsync<BlockMountException>(
            async () => await PosixStorage.Instance.CreateAsync(path, new StorageCreateOptions()));
        Assert.Equal($"Could not create '{path}': File exists", error.Message);
        Assert.Equal(4, new FileInfo(path).Length);
    }

    private static StorageOpenOptions Options(string name) => name switch
    {
        "write" => s_write,
        "read" => s_read,
        "shared write" => s_sharedWrite,
        "shared read" => s_sharedRead,
        _ => s_forced,
    };
}
