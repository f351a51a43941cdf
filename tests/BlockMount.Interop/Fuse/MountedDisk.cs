using BlockMount.Block.Devices;
using BlockMount.Block.Nodes;
using BlockMount.Exports.Fuse;
using BlockMount.Formats.Raw;
using BlockMount.Storage;
using BlockMount.TestSupport;
using Microsoft.Extensions.Logging.Abstractions;

namespace BlockMount.Interop.Fuse;

/// <summary>A raw disk mounted in a scratch folder of its own; unmounted and removed on disposal, also after a failed test.</summary>
internal sealed class MountedDisk : IAsyncDisposable
{
    private readonly ScratchFolder _folder;

    private MountedDisk(ScratchFolder folder, BlockDevice device, FuseExport export)
    {
        _folder = folder;
        Device = device;
        Export = export;
    }

    internal BlockDevice Device { get; }

    internal FuseExport Export { get; }

    /// <summary>The mounted file.</summary>
    internal string Path => Export.Address;

    /// <summary>The host file below, if there is one; removed on disposal.</summary>
    internal string? ImagePath { get; private set; }

    /// <summary>A folder outside the mount for the test's own files.</summary>
    internal ScratchFolder Folder => _folder;

    /// <summary>Mounts a disk of <paramref name="size"/> bytes of memory.</summary>
    internal static async Task<MountedDisk> InMemoryAsync(int size, Func<FuseExportOptions, FuseExportOptions>? change = null)
    {
        MemoryFile file = new();
        await file.ResizeAsync(size);
        return await MountAsync(file, change);
    }

    /// <summary>Mounts a new sparse host file of <paramref name="size"/> bytes; its path is <see cref="ImagePath"/>.</summary>
    internal static async Task<MountedDisk> OnHostFileAsync(long size, Func<FuseExportOptions, FuseExportOptions>? change = null)
    {
        string path = System.IO.Path.Combine(System.IO.Path.GetTempPath(), $"blockmount-test-{Guid.NewGuid():N}.raw");
        try
        {
            await using (FileStream created = File.Create(path))
            {
                created.SetLength(size);
            }

            MountedDisk disk = await MountAsync(await PosixStorage.Instance.OpenAsync(path, RunOptions.Storage), change);
            disk.ImagePath = path;
            return disk;
        }
        catch
        {
            File.Delete(path);
            throw;
        }
    }

    /// <summary>Mounts <paramref name="file"/>, which is taken over.</summary>
    internal static Task<MountedDisk> MountAsync(StorageFile file, Func<FuseExportOptions, FuseExportOptions>? change = null) =>
        MountAsync(new BlockDevice("disk0", new FormatNode("disk0", file.Name, new RawDriver(file), backing: null), file.ReadOnly), !file.ReadOnly, change);

    /// <summary>Mounts <paramref name="device"/>, which is taken over.</summary>
    internal static async Task<MountedDisk> MountAsync(BlockDevice device, bool writable, Func<FuseExportOptions, FuseExportOptions>? change = null)
    {
        ScratchFolder folder = new();
        try
        {
            string mountPoint = folder["disk"];
            await File.WriteAllTextAsync(mountPoint, "content below the mount");
            FuseExportOptions options = new() { MountPoint = mountPoint, FileSystemName = "/images/a, b.raw", Writable = writable };
            FuseExport export = await FuseExport.StartAsync(device, change?.Invoke(options) ?? options, NullLogger.Instance);
            return new MountedDisk(folder, device, export);
        }
        catch
        {
            await device.DisposeAsync();
            folder.Dispose();
            throw;
        }
    }

    public async ValueTask DisposeAsync()
    {
        await Export.DisposeAsync();
        await Device.DisposeAsync();
        _folder.Dispose();
        if (ImagePath is not null)
        {
            File.Delete(ImagePath);
        }
    }
}
