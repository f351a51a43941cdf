using System.Diagnostics;

namespace BlockMount.Bench.Servers;

/// <summary>A disk served by a program of QEMU's or by nbdkit, in the foreground.</summary>
internal sealed class ForegroundServer : ServedDisk
{
    private readonly ServerProcess _process;
    private readonly string _place;

    private ForegroundServer(ServerProcess process, string address, string place)
        : base(process.Pid, address)
    {
        _process = process;
        _place = place;
    }

    /// <summary>A storage daemon of QEMU's with a FUSE export on <paramref name="place"/>, which is made.</summary>
    public static async Task<ForegroundServer> QemuFuseAsync(string program, ImageFile image, string place)
    {
        await File.WriteAllBytesAsync(place, []);
        Stopwatch watch = Stopwatch.StartNew();
        ServerProcess process = await ServerProcess.StartAsync(
            () => new FileInfo(place).Length > 0,
            program,
            "--blockdev", QemuNode(image),
            "--export", $"type=fuse,id=e,node-name=disk,mountpoint={place},writable={(image.ReadOnly ? "off" : "on")}");
        await ReadOnceAsync(place);
        return new ForegroundServer(process, place, place) { AnsweredAfter = watch.Elapsed };
    }

    /// <summary>A storage daemon of QEMU's with an NBD export on a Unix socket.</summary>
    public static async Task<ForegroundServer> QemuStorageNbdAsync(string program, ImageFile image, string place)
    {
        // The socket is there before the export is, so the daemon says by this file that it has both.
        string pidFile = place + ".pid";
        ServerProcess process = await ServerProcess.StartAsync(
            () => File.Exists(pidFile),
            program,
            "--blockdev", QemuNode(image),
            "--nbd-server", $"addr.type=unix,addr.path={place},max-connections=16",
            "--export", $"type=nbd,id=e,node-name=disk,name=disk,writable={(image.ReadOnly ? "off" : "on")}",
            "--pidfile", pidFile);
        return new ForegroundServer(process, $"nbd+unix:///disk?socket={place}", place);
    }

    /// <summary>Debian's qemu-nbd on a Unix socket.</summary>
    public static async Task<ForegroundServer> QemuNbdAsync(ImageFile image, string place)
    {
        ServerProcess process = await ServerProcess.StartAsync(
            () => File.Exists(place), "qemu-nbd", "-f", image.Format, "-t", "-e", "16", "--discard=unmap", "-k", place, image.Path);
        return new ForegroundServer(process, $"nbd+unix:///?socket={place}", place);
    }

    /// <summary>nbdkit's file plugin on a raw file.</summary>
    public static async Task<ForegroundServer> NbdkitAsync(ImageFile image, string place)
    {
        ServerProcess process = await ServerProcess.StartAsync(() => File.Exists(place), "nbdkit", "-f", "-U", place, "file", image.Path);
        return new ForegroundServer(process, $"nbd+unix:///?socket={place}", place);
    }

    public override async ValueTask DisposeAsync()
    {
        await _process.DisposeAsync();
        await Mounts.DetachAsync(_place);
        File.Delete(_place);
    }

    private static string QemuNode(ImageFile image) =>
        $"driver={image.Format},node-name=disk,discard=unmap,read-only={(image.ReadOnly ? "on" : "off")},file.driver=file,file.filename={image.Path}";
}
