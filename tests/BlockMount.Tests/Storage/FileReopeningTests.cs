using BlockMount.Base;
using BlockMount.Storage;
using Xunit;

namespace BlockMount.Tests.Storage;

/// <summary>FEATURES K6, K12: a file is opened again in another way, and no moment is unprotected.</summary>
public sealed class FileReopeningTests : IDisposable
{
    private static readonly StorageOpenOptions s_write = new();
    private static readonly StorageOpenOptions s_read = new() { ReadOnly = true };

    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task Reopen_WriterBecomesReader_OthersMayReadWhenTheWriterIsClosed()
    {
        string path = _folder.Create("image", new byte[4096]);
        StorageFile writer = await PosixStorage.Instance.OpenAsync(path, s_write);
        await using StorageFile reader = await PosixStorage.Instance.ReopenAsync(writer, s_read);
        Assert.True(reader.ReadOnly);
        Assert.Equal(path, reader.Name);
        await Assert.ThrowsAsync<BlockMountException>(async () => await PosixStorage.Instance.OpenAsync(path, s_read));
        await writer.DisposeAsync();
        await using StorageFile other = await PosixStorage.Instance.OpenAsync(path, s_read);
        await Assert.ThrowsAsync<BlockMountException>(async () => await PosixStorage.Instance.OpenAsync(path, s_write));
    }

    [Fact]
    public async Task Reopen_ReaderBecomesWriterWhereAnotherReads_IsRefusedAndLeavesItsLocks()
    {
        string path = _folder.Create("image", new byte[4096]);
        await using StorageFile reader = await PosixStorage.Instance.OpenAsync(path, s_read);
        StorageFile other = await PosixStorage.Instance.OpenAsync(path, s_read);
        BlockMountException error = await Assert.ThrowsAsync<BlockMountException>(async () => await PosixStorage.Instance.ReopenAsync(reader, s_write));
        Assert.Contains("Failed to get \"write\" lock", error.Message, StringComparison.Ordinal);
        await using (StorageFile third = await PosixStorage.Instance.OpenAsync(path, s_read))
        {
            Assert.True(third.ReadOnly);
        }

        await other.DisposeAsync();
        StorageFile writer = await PosixStorage.Instance.ReopenAsync(reader, s_write);
        await writer.WriteAsync(0, new byte[] { 1 });
        await Assert.ThrowsAsync<BlockMountException>(async () => await PosixStorage.Instance.OpenAsync(path, s_read));
        await writer.DisposeAsync();
        await using StorageFile again = await PosixStorage.Instance.OpenAsync(path, s_read);
    }

    [Fact]
    public async Task Reopen_NameHasMoved_IsStillTheSameFile()
    {
        string path = _folder.Create("image", [1, 2, 3]);
        await using StorageFile reader = await PosixStorage.Instance.OpenAsync(path, s_read);
        File.Move(path, path + ".moved");
        _folder.Create("image", [9, 9, 9]);
        await using StorageFile writer = await PosixStorage.Instance.ReopenAsync(reader, s_write);
        byte[] read = new byte[3];
        await writer.ReadAsync(0, read);
        Assert.Equal([1, 2, 3], read);
    }

    [Fact]
    public async Task CreateNew_PublishedOrNot_NameAppearsOnlyWhenItIsComplete()
    {
        string path = Path.Combine(Path.GetDirectoryName(_folder.Create("other", [1]))!, "new");
        NewFile abandoned = await PosixStorage.Instance.CreateAsync(path, s_write);
        Assert.False(File.Exists(path));
        await abandoned.File.DisposeAsync();
        await abandoned.DisposeAsync();
        Assert.Equal(["other"], Directory.GetFiles(Path.GetDirectoryName(path)!).Select(Path.GetFileName));
        NewFile made = await PosixStorage.Instance.CreateAsync(path, s_write);
        await made.File.WriteAsync(0, new byte[] { 5 });
        await made.PublishAsync();
        Assert.Equal(path, made.File.Name);
        await made.File.DisposeAsync();
        await made.DisposeAsync();
        Assert.Equal([5], await File.ReadAllBytesAsync(path));
        // In use: it is not replaced, and nothing is left beside it.
        await using StorageFile user = await PosixStorage.Instance.OpenAsync(path, s_read);
        await Assert.ThrowsAsync<BlockMountException>(async () => await PosixStorage.Instance.CreateAsync(path, s_write));
        Assert.Equal(2, Directory.GetFiles(Path.GetDirectoryName(path)!).Length);
    }
}
