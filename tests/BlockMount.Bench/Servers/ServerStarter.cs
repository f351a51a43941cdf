using BlockMount.Bench.Loads;

namespace BlockMount.Bench.Servers;

/// <summary>Starts the contender that is named on the image that a load asks for. One disk is served at a time.</summary>
internal sealed class ServerStarter(BenchSettings settings, string folder, DiskImages images)
{
    private const string DebianDaemon = "qemu-storage-daemon";

    private int _served;

    /// <summary>Serves the disk of a load.</summary>
    public async Task<ServedDisk> StartAsync(Contender contender, Load load)
    {
        if (!contender.ServesQcow2())
        {
            ImageFile raw = await images.RawForAsync(load.Disk);
            return contender == Contender.Nbdkit
                ? await ForegroundServer.NbdkitAsync(raw, NextPlace())
                : new NativeFile(raw.Path, temporary: load.Disk.Shape == DiskShape.EmptyOverlay);
        }

        ImageFile image = await images.ForAsync(load.Disk);
        return load.Access == Access.Fuse ? await MountAsync(contender, image) : await NbdAsync(contender, image);
    }

    /// <summary>Serves an image as a file.</summary>
    public async Task<ServedDisk> MountAsync(Contender contender, ImageFile image) => contender switch
    {
        Contender.BlockMount => await BlockMountServer.MountAsync(image, NextPlace(), settings.MountOptions),
        Contender.NewerQemu => await ForegroundServer.QemuFuseAsync(settings.NewerQemu!, image, NextPlace()),
        _ => await ForegroundServer.QemuFuseAsync(DebianDaemon, image, NextPlace()),
    };

    private async Task<ServedDisk> NbdAsync(Contender contender, ImageFile image) => contender switch
    {
        Contender.BlockMount => await BlockMountServer.NbdAsync(image, NextPlace(), settings.NbdOptions),
        Contender.NewerQemu => await ForegroundServer.QemuStorageNbdAsync(settings.NewerQemu!, image, NextPlace()),
        _ => await ForegroundServer.QemuNbdAsync(image, NextPlace()),
    };

    private string NextPlace() => Path.Combine(folder, $"disk{_served++}");
}
