using BlockMount.Base;
using BlockMount.Storage;
using BlockMount.TestSupport;
using Xunit;

namespace BlockMount.Interop.Storage;

/// <summary>A block device as an image: a loop device over a file whose length is no multiple of a page.</summary>
public sealed class BlockDeviceTests : IDisposable
{
    private const int Size = (1 << 20) + 512;

    private readonly ScratchFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [RequiresTheory(Needs.Root | Needs.Loop, "losetup")]
    [InlineData(false, IoEngine.Auto)]
    [InlineData(true, IoEngine.Threads)]
    [InlineData(true, IoEngine.Auto)]
    public async Task BlockDevice_ReadWriteZeroAndPunch_AgreeWithAByteArray(bool direct, IoEngine engine)
    {
        string path = _folder["backing"];
        await File.WriteAllBytesAsync(path, new byte[Size]);
        string device = (await ToolProcess.RunAsync("losetup", "--find", "--show", path)).MustSucceed().Output.Trim();
        try
        {
            await using StorageFile file = await PosixStorage.Instance.OpenAsync(device, new StorageOpenOptions { Direct = direct, Engine = engine });
            Assert.Equal(Size, file.Length);
            byte[] model = new byte[Size];
            Random random = new(3);
            for (int step = 0; step < 200; step++)
            {
                int offset = random.Next(Size);
                int length = random.Next(1, Math.Min(Size - offset, 100_000) + 1);
                await ChangeAsync(file, random, model, offset, length);
            }

            byte[] content = new byte[Size];
            await file.ReadAsync(0, content);
            Assert.True(content.AsSpan().SequenceEqual(model));
            await file.FlushAsync();
            await Assert.ThrowsAsync<BlockIOException>(async () => await file.WriteAsync(Size - 100, new byte[1000]));
            await Assert.ThrowsAsync<BlockIOException>(async () => await file.WriteZeroesAsync(Size - 100, 1000, mayUnmap: true));
            await Assert.ThrowsAsync<BlockIOException>(async () => await file.ResizeAsync(1));
            Assert.Equal(Size, file.Length);
        }
        finally
        {
            (await ToolProcess.RunAsync("losetup", "--detach", device)).MustSucceed();
        }
    }

    private static async Task ChangeAsync(StorageFile file, Random random, byte[] model, int offset, int length)
    {
        switch (random.Next(3))
        {
            case 0:
                random.NextBytes(model.AsSpan(offset, length));
                await file.WriteAsync(offset, model.AsMemory(offset, length));
                break;
            case 1:
                model.AsSpan(offset, length).Clear();
                await file.WriteZeroesAsync(offset, length, mayUnmap: random.Next(2) == 0);
                break;
            default:
                if (await file.PunchHoleAsync(offset, length))
                {
                    model.AsSpan(offset, length).Clear();
                }

                break;
        }
    }
}
