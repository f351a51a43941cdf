using BlockMount.Exports.Fuse;
using BlockMount.Storage;
using BlockMount.TestSupport;
using Xunit;

namespace BlockMount.Interop.Fuse;

/// <summary>A raw image that nothing can change is read by the kernel itself; everything else comes through the device.</summary>
public sealed class FusePassthroughTests : IDisposable
{
    private const int Size = (3 << 20) + 512;

    private readonly ScratchFolder _folder = new();
    private readonly byte[] _content = new byte[Size];

    public FusePassthroughTests()
    {
        new Random(7).NextBytes(_content);
        File.WriteAllBytes(_folder["raw"], _content);
    }

    public void Dispose() => _folder.Dispose();

    [RequiresFact(Needs.FusePassthrough, "cmp")]
    public async Task ReadOnlyRawFile_IsReadByTheKernel()
    {
        await using MountedDisk disk = await MountAsync(new StorageOpenOptions { ReadOnly = true });
        Assert.True(disk.Export.IsPassthrough);
        (await ToolProcess.RunAsync("cmp", disk.Path, _folder["raw"])).MustSucceed();
        Assert.Equal(0, disk.Device.Statistics.Reads.Operations);
        Assert.ThrowsAny<UnauthorizedAccessException>(() => File.OpenWrite(disk.Path).Dispose());
    }

    [RequiresFact(Needs.FusePassthrough, "cmp")]
    public async Task Passthrough_SwitchedOff_ReadsComeToTheDevice()
    {
        await using MountedDisk disk = await MountAsync(new StorageOpenOptions { ReadOnly = true }, options => options with { Passthrough = false });
        Assert.False(disk.Export.IsPassthrough);
        (await ToolProcess.RunAsync("cmp", disk.Path, _folder["raw"])).MustSucceed();
        Assert.True(disk.Device.Statistics.Reads.Operations > 0);
    }

    // The page cache that cache=none avoids would come back by the back door.
    [RequiresFact(Needs.FusePassthrough)]
    public async Task WritableOrDirectFile_ComesToTheDevice()
    {
        await using (MountedDisk writable = await MountAsync(new StorageOpenOptions()))
        {
            Assert.False(writable.Export.IsPassthrough);
        }

        await using MountedDisk direct = await MountAsync(new StorageOpenOptions { ReadOnly = true, Direct = true });
        Assert.False(direct.Export.IsPassthrough);
    }

    private async Task<MountedDisk> MountAsync(StorageOpenOptions open, Func<FuseExportOptions, FuseExportOptions>? change = null) =>
        await MountedDisk.MountAsync(await PosixStorage.Instance.OpenAsync(_folder["raw"], open), change);
}
