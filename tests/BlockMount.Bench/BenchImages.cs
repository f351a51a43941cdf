using BlockMount.TestSupport;

namespace BlockMount.Bench;

/// <summary>The images that both sides serve, made by qemu-img so that none has an advantage of its own.</summary>
internal static class BenchImages
{
    /// <summary>Size of the disk under load.</summary>
    public const long DiskBytes = 1L << 30;

    /// <summary>A 1 GiB qcow2 image with every cluster allocated and holding data.</summary>
    public static async Task<string> FullAsync(string folder)
    {
        string path = Path.Combine(folder, "full.qcow2");
        await QemuImgAsync("create", "-f", "qcow2", path, DiskBytes.ToString());
        await RunAsync("qemu-io", "-f", "qcow2", "-c", $"write -q -P 0x5a 0 {DiskBytes}", path);
        return path;
    }

    /// <summary>A fresh, empty overlay on <paramref name="backing"/>.</summary>
    public static async Task<string> OverlayAsync(string folder, string name, string backing)
    {
        string path = Path.Combine(folder, name);
        File.Delete(path);
        await QemuImgAsync("create", "-f", "qcow2", "-b", backing, "-F", "qcow2", path);
        return path;
    }

    /// <summary>
    /// A chain of <paramref name="depth"/> images of <paramref name="size"/>; each layer holds a little data of its own, spread
    /// over the disk.
    /// </summary>
    public static async Task<string> ChainAsync(string folder, int depth, long size)
    {
        string? below = null;
        for (int layer = 0; layer < depth; layer++)
        {
            string path = Path.Combine(folder, $"chain-{layer}.qcow2");
            string[] backing = below is null ? [] : ["-b", below, "-F", "qcow2"];
            await QemuImgAsync(["create", "-f", "qcow2", .. backing, path, size.ToString()]);
            string[] writes = [.. Enumerable.Range(0, 64).SelectMany(i => new[] { "-c", $"write -q -P {layer + 1} {Spread(layer, i, size)} 64k" })];
            await RunAsync("qemu-io", ["-f", "qcow2", .. writes, path]);
            below = path;
        }

        return below!;
    }

    private static long Spread(int layer, int index, long size) => (size / 64 * index) + ((long)layer << 16);

    private static Task QemuImgAsync(params string[] arguments) => RunAsync("qemu-img", [arguments[0], "-q", .. arguments[1..]]);

    private static async Task RunAsync(string tool, params string[] arguments) =>
        (await ToolProcess.RunAsync(TimeSpan.FromMinutes(5), tool, arguments)).MustSucceed();
}
