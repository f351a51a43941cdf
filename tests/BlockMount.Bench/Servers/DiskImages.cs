using BlockMount.Bench.Loads;
using BlockMount.TestSupport;

namespace BlockMount.Bench.Servers;

/// <summary>An image on the host, and how it is served.</summary>
/// <param name="Format">qcow2 or raw.</param>
internal sealed record ImageFile(string Path, string Format, bool ReadOnly = false);

/// <summary>
/// Owns the images in the folder of a run. All of them are made by qemu-img and qemu-io, when first asked for, so that no side has an advantage
/// of its own. One caller at a time.
/// </summary>
internal sealed class DiskImages(string folder)
{
    /// <summary>Size of the disk under load.</summary>
    public const long DiskBytes = 1L << 30;

    /// <summary>Size of the disk for memory and for opening.</summary>
    public const long LargeBytes = 1L << 40;

    /// <summary>Images of <see cref="LargeChainAsync"/>, its top included.</summary>
    public const int LargeDepth = 64;

    /// <summary>What all of them take at most, together: full image, raw file, an overlay, both chains with a top, the large image.</summary>
    public const long RoomBytes = 6L << 30;

    private const long Cluster = 64 << 10;

    private readonly HashSet<string> _made = [];

    /// <summary>The image for a load; an overlay is fresh each time.</summary>
    public async Task<ImageFile> ForAsync(Disk disk) => disk.Shape switch
    {
        DiskShape.RawReadOnly => (await RawAsync()) with { ReadOnly = true },
        DiskShape.EmptyOverlay => await OverlayAsync("overlay.qcow2", (await FullAsync()).Path),
        DiskShape.Chain => await ChainAsync(disk.Depth),
        _ => await FullAsync(),
    };

    /// <summary>A raw file for those who know no qcow2: with the same bytes, or, for an allocating load, empty and fresh.</summary>
    public async Task<ImageFile> RawForAsync(Disk disk)
    {
        if (disk.Shape != DiskShape.EmptyOverlay)
        {
            return await RawAsync();
        }

        string path = InFolder("empty.raw");
        await using FileStream file = new(path, FileMode.Create);
        file.SetLength(DiskBytes);
        return new ImageFile(path, "raw");
    }

    /// <summary>1 GiB, every cluster allocated and holding data.</summary>
    public async Task<ImageFile> FullAsync()
    {
        string path = InFolder("full.qcow2");
        await OnceAsync(path, async () =>
        {
            await QemuImgAsync("create", "-f", "qcow2", path, $"{DiskBytes}");
            await RunAsync("qemu-io", "-f", "qcow2", "-c", $"write -q -P 0x5a 0 {DiskBytes}", path);
        });
        return new ImageFile(path, "qcow2");
    }

    /// <summary>The top of a chain on the full image: each image above it holds 32 clusters of its own, spread over the disk.</summary>
    public async Task<ImageFile> ChainAsync(int depth)
    {
        string below = (await FullAsync()).Path;
        for (int layer = 1; layer < depth; layer++)
        {
            string path = InFolder($"chain-{layer}.qcow2");
            string backing = below;
            await OnceAsync(path, () => OverlayWithDataAsync(path, backing, DiskBytes, Spread(layer, 32, DiskBytes)));
            below = path;
        }

        return new ImageFile(below, "qcow2");
    }

    /// <summary>1 TiB on 64 images: a fresh, empty top, and 63 with 64 clusters of their own each, spread over the disk.</summary>
    public async Task<ImageFile> LargeChainAsync()
    {
        string? below = null;
        for (int layer = 0; layer < LargeDepth - 1; layer++)
        {
            string path = InFolder($"large-chain-{layer}.qcow2");
            string? backing = below;
            await OnceAsync(path, () => OverlayWithDataAsync(path, backing, LargeBytes, Spread(layer, 64, LargeBytes)));
            below = path;
        }

        return await OverlayAsync("large-top.qcow2", below!);
    }

    /// <summary>1 TiB in one image that has each of its L2 tables, with a cluster in each.</summary>
    public async Task<ImageFile> LargeAsync()
    {
        string path = InFolder("large.qcow2");
        // One L2 table maps cluster_size / 8 clusters.
        long perTable = Cluster / 8 * Cluster;
        await OnceAsync(path, () => OverlayWithDataAsync(path, null, LargeBytes, [.. Enumerable.Range(0, (int)(LargeBytes / perTable)).Select(table => table * perTable)]));
        return new ImageFile(path, "qcow2");
    }

    private async Task<ImageFile> RawAsync()
    {
        string path = InFolder("full.raw");
        string full = (await FullAsync()).Path;
        await OnceAsync(path, () => QemuImgAsync("convert", "-f", "qcow2", "-O", "raw", "-S", "0", full, path));
        return new ImageFile(path, "raw");
    }

    private async Task<ImageFile> OverlayAsync(string name, string backing)
    {
        string path = InFolder(name);
        File.Delete(path);
        await QemuImgAsync("create", "-f", "qcow2", "-b", backing, "-F", "qcow2", path);
        return new ImageFile(path, "qcow2");
    }

    // Neither program opens what lies below: making a chain stays linear in its depth.
    private static async Task OverlayWithDataAsync(string path, string? backing, long size, long[] offsets)
    {
        string[] below = backing is null ? [] : ["-u", "-b", backing, "-F", "qcow2"];
        await QemuImgAsync(["create", "-f", "qcow2", .. below, path, $"{size}"]);
        string[] writes = [.. offsets.SelectMany(offset => new[] { "-c", $"write -q -P 0xa5 {offset} {Cluster}" })];
        string alone = "json:{\"driver\":\"qcow2\",\"backing\":null,\"file\":{\"driver\":\"file\",\"filename\":\"" + path + "\"}}";
        await RunAsync("qemu-io", [.. writes, backing is null ? path : alone]);
    }

    private static long[] Spread(int layer, int count, long size) =>
        [.. Enumerable.Range(0, count).Select(i => (size / count * i) + (layer * Cluster % (size / count)))];

    // A file counts as made only when all of it is there.
    private async Task OnceAsync(string path, Func<Task> make)
    {
        if (!_made.Contains(path))
        {
            await make();
            _made.Add(path);
        }
    }

    private string InFolder(string name) => Path.Combine(folder, name);

    private static Task QemuImgAsync(params string[] arguments) => RunAsync("qemu-img", [arguments[0], "-q", .. arguments[1..]]);

    // The command may have thousands of arguments; its last one is the image.
    private static async Task RunAsync(string tool, params string[] arguments)
    {
        ToolResult result = await ToolProcess.RunAsync(TimeSpan.FromMinutes(5), tool, arguments);
        if (result.ExitCode != 0)
        {
            throw new InvalidOperationException($"{tool} could not make {arguments[^1]} (exit code {result.ExitCode}): {result.Error.Trim()}");
        }
    }
}
