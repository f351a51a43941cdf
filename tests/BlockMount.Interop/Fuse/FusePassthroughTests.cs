using BlockMount.Block.Devices;
using BlockMount.Block.Graph;
using BlockMount.Block.Nodes;
using BlockMount.Exports.Fuse;
using BlockMount.Formats;
using BlockMount.Storage;
using BlockMount.TestSupport;
using Microsoft.Extensions.Logging.Abstractions;
using Xunit;

namespace BlockMount.Interop.Fuse;

/// <summary>A raw image that nothing can change is read by the kernel itself; everything else comes through the device.</summary>
public sealed class FusePassthroughTests : IDisposable
{
    private const int Size = (3 << 20) + 512;

    private static readonly Func<FuseExportOptions, FuseExportOptions> s_graphStays = options => options with { Passthrough = true };

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
        await using MountedDisk disk = await MountAsync(new StorageOpenOptions { ReadOnly = true }, s_graphStays);
        Assert.True(disk.Export.IsPassthrough);
        (await ToolProcess.RunAsync("cmp", disk.Path, _folder["raw"])).MustSucceed();
        Assert.Equal(0, disk.Device.Statistics.Reads.Operations);
        Assert.ThrowsAny<UnauthorizedAccessException>(() => File.OpenWrite(disk.Path).Dispose());
    }

    [RequiresFact(Needs.FusePassthrough, "cmp")]
    public async Task NobodySaysThatTheGraphStays_ReadsComeToTheDevice()
    {
        await using MountedDisk disk = await MountAsync(new StorageOpenOptions { ReadOnly = true });
        Assert.False(disk.Export.IsPassthrough);
        (await ToolProcess.RunAsync("cmp", disk.Path, _folder["raw"])).MustSucceed();
        Assert.True(disk.Device.Statistics.Reads.Operations > 0);
    }

    // The page cache that cache=none avoids would come back by the back door.
    [RequiresFact(Needs.FusePassthrough)]
    public async Task WritableOrDirectFile_ComesToTheDevice()
    {
        await using (MountedDisk writable = await MountAsync(new StorageOpenOptions(), s_graphStays))
        {
            Assert.False(writable.Export.IsPassthrough);
        }

        await using MountedDisk direct = await MountAsync(new StorageOpenOptions { ReadOnly = true, Direct = true }, s_graphStays);
        Assert.False(direct.Export.IsPassthrough);
    }

    // The kernel would show the file of before to everybody who opens the mount from then on.
    [RequiresFact(Needs.FusePassthrough)]
    public async Task ChangeOfTheMedium_UnderAMount_ShowsTheOtherFile()
    {
        byte[] other = [.. _content.Select(value => (byte)~value)];
        await File.WriteAllBytesAsync(_folder["other"], other);
        await using NodeGraph graph = new(PosixStorage.Instance, new OpenPolicy());
        await using ControlLoop loop = new(graph);
        ChainOpener opener = new(PosixStorage.Instance, new OpenPolicy());
        Node top = await opener.OpenAsync(_folder["raw"], new ChainOpenOptions { Format = "raw", ReadOnly = true });
        BlockDevice device = await loop.RunAsync(async scope =>
        {
            graph.Adopt(scope, top);
            return await graph.AddDeviceAsync(scope, top, new DeviceOptions { Name = "drive0" });
        });
        string mount = _folder["disk"];
        await File.WriteAllBytesAsync(mount, []);
        FuseExportOptions options = new() { MountPoint = mount, FileSystemName = "raw", Writable = false };
        await using FuseExport export = await FuseExport.StartAsync(device, options, NullLogger.Instance);
        Assert.Equal(_content, await File.ReadAllBytesAsync(mount));
        Node next = await opener.OpenAsync(_folder["other"], new ChainOpenOptions { Format = "raw", ReadOnly = true, NodeName = "" });
        await loop.RunAsync(scope => NodeOperations.ChangeMediumAsync(scope, device, next));
        Assert.Equal(other, await File.ReadAllBytesAsync(mount));
    }

    private async Task<MountedDisk> MountAsync(StorageOpenOptions open, Func<FuseExportOptions, FuseExportOptions>? change = null) =>
        await MountedDisk.MountAsync(await PosixStorage.Instance.OpenAsync(_folder["raw"], open), change);
}
