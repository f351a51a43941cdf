using System.Diagnostics;
using System.Net.Sockets;
using BlockMount.Base;
using BlockMount.Storage;
using Xunit;

namespace BlockMount.Tests.Storage;

/// <summary>What cannot be opened says why, and what to do next.</summary>
public sealed class PosixStorageTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task Open_MissingFile_NamesASimilarOne()
    {
        _folder.Create("server.qcow2");
        BlockMountException error = await OpenFailsAsync(_folder["sever.qcow2"]);
        Assert.Equal($"Could not open '{_folder["sever.qcow2"]}': No such file or directory", error.Message);
        Assert.Equal("Did you mean 'server.qcow2'?", error.Hint);
    }

    [Fact]
    public async Task Open_MissingDirectory_NamesTheFirstThatIsMissing()
    {
        BlockMountException error = await OpenFailsAsync(_folder["a/b/c.qcow2"]);
        Assert.Equal($"The directory '{_folder["a"]}' does not exist.", error.Hint);
    }

    [Fact]
    public async Task Open_Directory_IsRefused()
    {
        BlockMountException error = await OpenFailsAsync(_folder.Folder);
        Assert.Equal($"Could not open '{_folder.Folder}': it is a directory", error.Message);
    }

    [Fact]
    public async Task Open_CharacterDevice_IsRefused()
    {
        BlockMountException error = await OpenFailsAsync("/dev/null");
        Assert.Equal("Could not open '/dev/null': it is a character device", error.Message);
    }

    [Fact]
    public async Task Open_Fifo_IsRefusedAtOnce()
    {
        string path = _folder["fifo"];
        Assert.Equal(0, Mono.Unix.Native.Syscall.mkfifo(path, Mono.Unix.Native.FilePermissions.S_IRUSR));
        Stopwatch watch = Stopwatch.StartNew();
        BlockMountException error = await OpenFailsAsync(path);
        Assert.Equal($"Could not open '{path}': it is a FIFO", error.Message);
        Assert.InRange(watch.ElapsedMilliseconds, 0, 10_000);
    }

    [Fact]
    public async Task Open_Socket_IsRefused()
    {
        string path = _folder["socket"];
        using Socket socket = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        socket.Bind(new UnixDomainSocketEndPoint(path));
        BlockMountException error = await OpenFailsAsync(path);
        Assert.Equal($"Could not open '{path}': it is a socket", error.Message);
    }

    [Fact]
    public async Task Open_FileBelowAFile_SaysSo()
    {
        _folder.Create("file");
        BlockMountException error = await OpenFailsAsync(_folder["file/image"]);
        Assert.Contains("Not a directory", error.Message, StringComparison.Ordinal);
        Assert.Contains("is a file", error.Hint, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Open_ReadOnly_MayNotWrite()
    {
        string path = _folder.Create("image", new byte[512]);
        await using StorageFile file = await PosixStorage.Instance.OpenAsync(path, new StorageOpenOptions { ReadOnly = true });
        Assert.True(file.ReadOnly);
        await file.FlushAsync();
        BlockIOException error = await Assert.ThrowsAsync<BlockIOException>(async () => await file.ResizeAsync(1024));
        Assert.Equal(Errno.EINVAL, error.Errno);
        Assert.Equal(512, file.Length);
    }

    [Fact]
    public async Task Create_NewFile_HasTheLengthAndTheMode()
    {
        string path = _folder["new"];
        await using StorageFile file = await PosixStorage.Instance.CreateAsync(path, new StorageCreateOptions { Length = 12345, Mode = 0x180 });
        Assert.Equal(12345, file.Length);
        Assert.Equal(0, file.AllocatedBytes);
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(path));
    }

    [Fact]
    public async Task Create_ThatFails_LeavesNoFile()
    {
        string path = _folder["new"];
        await Assert.ThrowsAsync<BlockMountException>(
            async () => await PosixStorage.Instance.CreateAsync(path, new StorageCreateOptions { Length = long.MaxValue }));
        Assert.False(File.Exists(path));
    }

    private static async Task<BlockMountException> OpenFailsAsync(string path) =>
        await Assert.ThrowsAsync<BlockMountException>(async () => await PosixStorage.Instance.OpenAsync(path, new StorageOpenOptions()));
}
