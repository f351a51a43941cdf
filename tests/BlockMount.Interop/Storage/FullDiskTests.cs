using BlockMount.Base;
using BlockMount.Base.Buffers;
using BlockMount.Storage;
using BlockMount.TestSupport;
using Xunit;

namespace BlockMount.Interop.Storage;

/// <summary>A disk without space under a file with holes: the write lies inside the file, so nothing but the write itself can fail.</summary>
public sealed class FullDiskTests : IDisposable
{
    private const int Block = 1 << 20;

    private readonly ScratchFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [RequiresTheory(Needs.Root | Needs.Loop | Needs.IoUring, "mkfs.ext4", "mount")]
    [InlineData(false, IoEngine.Threads)]
    [InlineData(false, IoEngine.IoUring)]
    [InlineData(true, IoEngine.Threads)]
    [InlineData(true, IoEngine.IoUring)]
    public async Task Write_IntoAHoleOfAFullDisk_FailsWithNoSpaceAndNumbers(bool direct, IoEngine engine)
    {
        string mount = _folder["mnt"];
        Directory.CreateDirectory(mount);
        using (FileStream disk = File.Create(_folder["disk"]))
        {
            disk.SetLength(16 << 20);
        }

        (await ToolProcess.RunAsync("mkfs.ext4", "-q", "-O", "^has_journal", _folder["disk"])).MustSucceed();
        (await ToolProcess.RunAsync("mount", "-o", "loop", _folder["disk"], mount)).MustSucceed();
        try
        {
            await FillAsync(Path.Combine(mount, "file"), new StorageOpenOptions { Direct = direct, Engine = engine });
        }
        finally
        {
            (await ToolProcess.RunAsync("umount", mount)).MustSucceed();
        }
    }

    private static async Task FillAsync(string path, StorageOpenOptions options)
    {
        using (FileStream sparse = File.Create(path))
        {
            sparse.SetLength(64 * Block);
        }

        await using StorageFile file = await PosixStorage.Instance.OpenAsync(path, options);
        using AlignedBuffer buffer = new(Block);
        buffer.GetSpan().Fill(0xAB);
        int written = 0;
        BlockIOException? error = null;
        for (; written < 64 && error is null; written += error is null ? 1 : 0)
        {
            try
            {
                await file.WriteAsync((long)written * Block, buffer.Memory);
            }
            catch (BlockIOException full)
            {
                error = full;
            }
        }

        Assert.NotNull(error);
        Assert.Equal(Errno.ENOSPC, error.Errno);
        Assert.Contains($"to '{path}'", error.Message, StringComparison.Ordinal);
        Assert.InRange(written, 4, 16);
        Assert.Equal(64L * Block, file.Length);
        // What was written before is there, and the file goes on.
        await file.ReadAsync((written - 1L) * Block, buffer.Memory);
        Assert.Equal(-1, buffer.GetSpan().IndexOfAnyExcept((byte)0xAB));
    }
}
