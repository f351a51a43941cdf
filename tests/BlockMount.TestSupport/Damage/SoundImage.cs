using System.Collections.Concurrent;

namespace BlockMount.TestSupport.Damage;

/// <summary>A small sound image that qemu-img made, with what its disk and its snapshots read. Made once for each recipe. Needs "qemu-img" and "qemu-io".</summary>
public sealed class SoundImage
{
    private static readonly ConcurrentDictionary<string, Lazy<Task<SoundImage>>> s_made = new();

    private SoundImage(byte[] bytes, byte[] content, IReadOnlyDictionary<string, byte[]> snapshots, byte[]? dataFile)
    {
        Bytes = bytes;
        Content = content;
        Snapshots = snapshots;
        DataFile = dataFile;
    }

    /// <summary>Name of the external data file; used by the recipe "data-file".</summary>
    public const string DataFileName = "guest.data";

    // QEMU looks for a name without a path in its working folder, so that the image names the whole path, of a length that fits every folder.
    private const int DataFilePathLength = 150;

    public byte[] Bytes { get; }

    public byte[] Content { get; }

    public IReadOnlyDictionary<string, byte[]> Snapshots { get; }

    public byte[]? DataFile { get; }

    /// <summary>
    /// Options of qemu-img create by recipe, then what is done: "w" writes, "z" zeroes with and without clusters, "s" snapshots and writes in between,
    /// "b" bitmaps, "c" stores everything compressed.
    /// </summary>
    private static readonly Dictionary<string, (string Options, string Steps)> s_recipes = new()
    {
        ["512"] = ("cluster_size=512", "w"),
        ["4k"] = ("cluster_size=4k", "w"),
        ["64k"] = ("cluster_size=64k", "w"),
        ["2M"] = ("cluster_size=2M", "w"),
        ["v2"] = ("cluster_size=4k,compat=0.10", "w"),
        ["v2-snapshots"] = ("cluster_size=4k,compat=0.10", "ws"),
        ["1bit"] = ("cluster_size=512,refcount_bits=1", "w"),
        ["2bit"] = ("cluster_size=1k,refcount_bits=2", "ws"),
        ["8bit"] = ("cluster_size=2k,refcount_bits=8", "ws"),
        ["64bit"] = ("cluster_size=512,refcount_bits=64", "w"),
        ["zeros"] = ("cluster_size=4k", "wz"),
        ["snapshots"] = ("cluster_size=4k", "ws"),
        ["bitmaps"] = ("cluster_size=4k", "wb"),
        ["subclusters"] = ("cluster_size=16k,extended_l2=on", "w"),
        ["data-file"] = ("cluster_size=4k,data_file=" + DataFileName, "w"),
        ["compressed"] = ("cluster_size=4k", "wc"),
        ["compressed-subclusters"] = ("cluster_size=16k,extended_l2=on", "wc"),
        ["everything"] = ("cluster_size=1k", "wzsb"),
    };

    /// <summary>The image of a recipe; do not change its bytes.</summary>
    public static Task<SoundImage> GetAsync(string recipe) => s_made.GetOrAdd(recipe, name => new(() => MakeAsync(name))).Value;

    private static string Placeholder { get; } = new('*', DataFilePathLength);

    /// <summary>Saves the image's data file into <paramref name="folder"/>, if it has one, and lets <paramref name="image"/> name it there.</summary>
    public async Task PlaceDataFileAsync(ScratchFolder folder, byte[] image)
    {
        if (DataFile is not null)
        {
            await File.WriteAllBytesAsync(folder[DataFileName], DataFile);
            ReplaceText(image, Placeholder, DataFilePath(folder));
        }
    }

    private static string DataFilePath(ScratchFolder folder)
    {
        int padding = DataFilePathLength - folder.FullPath.Length - 1 - DataFileName.Length;
        return $"{folder.FullPath}/{new string('/', padding)}{DataFileName}";
    }

    private static void ReplaceText(byte[] image, string old, string replacement)
    {
        int place = image.AsSpan().IndexOf(System.Text.Encoding.ASCII.GetBytes(old));
        if (place >= 0)
        {
            System.Text.Encoding.ASCII.GetBytes(replacement).CopyTo(image, place);
        }
    }

    private static async Task<SoundImage> MakeAsync(string recipe)
    {
        (string options, string steps) = s_recipes[recipe];
        using ScratchFolder folder = new();
        string path = folder["image"];
        long scale = options.Contains("2M", StringComparison.Ordinal) ? 16 : 1;
        options = options.Replace(DataFileName, DataFilePath(folder), StringComparison.Ordinal);
        await QemuImg.RunAsync("create", "-f", "qcow2", "-o", options, path, QemuImg.Bytes(scale * (4 << 20)));
        await QemuImg.IoAsync(path, "write -P 1 0 96k", "write -P 2 99k 29k", "write -P 3 2100k 64k");
        if (steps.Contains('z', StringComparison.Ordinal))
        {
            await QemuImg.IoAsync(path, "write -z 16k 16k", "write -z -u 40k 8k", "discard 64k 8k", "write -z 256k 32k");
        }

        if (steps.Contains('c', StringComparison.Ordinal))
        {
            await QemuImg.RunAsync("convert", "-c", "-O", "qcow2", "-o", options, path, folder["compressed"]);
            path = folder["compressed"];
        }

        Dictionary<string, byte[]> snapshots = [];
        for (int i = 0; i < 2 && steps.Contains('s', StringComparison.Ordinal); i++)
        {
            snapshots.Add($"snapshot{i}", await QemuImg.ReadGuestAsync(path, folder["guest"]));
            await QemuImg.RunAsync("snapshot", "-c", $"snapshot{i}", path);
            await QemuImg.IoAsync(path, $"write -P {i + 4} {32 * (i + 1)}k 20k");
        }

        if (steps.Contains('b', StringComparison.Ordinal))
        {
            await QemuImg.RunAsync("bitmap", "--add", "-f", "qcow2", path, "history");
            await QemuImg.RunAsync("bitmap", "--add", "-g", "512", "-f", "qcow2", path, "other");
            await QemuImg.IoAsync(path, "write -P 9 8k 24k");
        }

        byte[] content = await QemuImg.ReadGuestAsync(path, folder["guest"]);
        byte[] image = await File.ReadAllBytesAsync(path);
        ReplaceText(image, DataFilePath(folder), Placeholder);
        byte[]? data = File.Exists(folder[DataFileName]) ? await File.ReadAllBytesAsync(folder[DataFileName]) : null;
        return new SoundImage(image, content, snapshots, data);
    }
}
