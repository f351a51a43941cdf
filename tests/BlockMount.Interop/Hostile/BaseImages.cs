using BlockMount.TestSupport;

namespace BlockMount.Interop.Hostile;

/// <summary>Valid images of qemu-img that the hostile ones are made of, each made once. A disk has <see cref="DiskSize"/> bytes.</summary>
internal static class BaseImages
{
    internal const int DiskSize = 4 << 20;

    private static readonly Lazy<Task<byte[]>> s_plain = new(() => MakeAsync("cluster_size=64k"));
    private static readonly Lazy<Task<byte[]>> s_small = new(() => MakeAsync("cluster_size=512"));
    private static readonly Lazy<Task<byte[]>> s_version2 = new(() => MakeAsync("compat=0.10"));
    private static readonly Lazy<Task<byte[]>> s_snapshots = new(() => MakeAsync("cluster_size=64k", async image =>
    {
        await QemuImg.RunAsync("snapshot", "-c", "before", image);
        await QemuImg.IoAsync(image, "write -P 7 0 64k");
    }));
    private static readonly Lazy<Task<byte[]>> s_bitmaps = new(() => MakeAsync("cluster_size=64k", async image =>
    {
        await QemuImg.RunAsync("bitmap", "--add", image, "b0");
        await QemuImg.IoAsync(image, "write -P 7 0 256k");
    }));
    private static readonly Lazy<Task<byte[]>> s_subclusters = new(() => MakeAsync("cluster_size=64k,extended_l2=on"));
    private static readonly Lazy<Task<byte[]>> s_zlib = new(() => MakeCompressedAsync("zlib"));
    private static readonly Lazy<Task<byte[]>> s_zstd = new(() => MakeCompressedAsync("zstd"));

    /// <summary>64 KiB clusters, data at several places.</summary>
    internal static Task<byte[]> Plain => s_plain.Value;

    /// <summary>512-byte clusters: many L2 tables.</summary>
    internal static Task<byte[]> Small => s_small.Value;

    internal static Task<byte[]> Version2 => s_version2.Value;

    /// <summary>One internal snapshot that shares most clusters with the disk.</summary>
    internal static Task<byte[]> WithSnapshot => s_snapshots.Value;

    /// <summary>One persistent bitmap.</summary>
    internal static Task<byte[]> WithBitmap => s_bitmaps.Value;

    internal static Task<byte[]> Subclusters => s_subclusters.Value;

    internal static Task<byte[]> Zlib => s_zlib.Value;

    internal static Task<byte[]> Zstd => s_zstd.Value;

    private static async Task<byte[]> MakeAsync(string options, Func<string, Task>? more = null)
    {
        using ScratchFolder folder = new();
        string image = folder["image"];
        await QemuImg.RunAsync("create", "-q", "-f", "qcow2", "-o", options, image, QemuImg.Bytes(DiskSize));
        await QemuImg.IoAsync(image, "write -P 1 0 192k", "write -P 2 1M 64k", "write -P 3 3M 128k");
        await (more?.Invoke(image) ?? Task.CompletedTask);
        return await File.ReadAllBytesAsync(image);
    }

    private static async Task<byte[]> MakeCompressedAsync(string type)
    {
        using ScratchFolder folder = new();
        await File.WriteAllBytesAsync(folder["plain"], await MakeAsync("cluster_size=64k"));
        await QemuImg.RunAsync("convert", "-c", "-O", "qcow2", "-o", $"compression_type={type}", folder["plain"], folder["image"]);
        return await File.ReadAllBytesAsync(folder["image"]);
    }
}
