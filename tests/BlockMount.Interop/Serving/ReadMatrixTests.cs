using BlockMount.TestSupport;
using Xunit;

namespace BlockMount.Interop.Serving;

/// <summary>Proves that images made by qemu-img read through a mount byte for byte as qemu-img convert reads them.</summary>
public sealed class ReadMatrixTests : ServedImageFixture
{
    private const int Size = 6 << 20;

    /// <summary>Cluster size (and more options), refcount width, compat, compression, backing format.</summary>
    public static TheoryData<string, int, string, string, string> Matrix()
    {
        TheoryData<string, int, string, string, string> rows = [];
        foreach (string cluster in new[] { "512", "4096", "65536", "2097152" })
        {
            foreach (string compression in new[] { "none", "zlib", "zstd" })
            {
                foreach (string backing in new[] { "none", "raw", "qcow2" })
                {
                    rows.Add(cluster, 16, "1.1", compression, backing);
                }
            }

            if (cluster is "65536" or "2097152")
            {
                rows.Add(cluster + ",extended_l2=on", 16, "1.1", "none", "none");
                rows.Add(cluster + ",extended_l2=on", 16, "1.1", "none", "qcow2");
                rows.Add(cluster + ",extended_l2=on", 16, "1.1", "zlib", "raw");
            }

            rows.Add(cluster, 16, "0.10", "none", "none");
            rows.Add(cluster, 16, "0.10", "zlib", "qcow2");
        }

        foreach (int bits in new[] { 1, 2, 4, 8, 32, 64 })
        {
            rows.Add("65536", bits, "1.1", bits == 1 ? "none" : "zlib", "qcow2");
        }

        return rows;
    }

    [RequiresTheory(Needs.Release | Needs.Fuse, "qemu-img", "qemu-io")]
    [MemberData(nameof(Matrix))]
    public async Task Mount_ImageOfQemuImg_ReadsAsQemuImgConvert(string cluster, int refcountBits, string compat, string compression, string backing)
    {
        string image = await MakeAsync(cluster, refcountBits, compat, compression, backing);
        byte[] expected = await QemuImg.ReadGuestAsync(image, this["expected.raw"]);
        string disk = await MountAsync(image, "--read-only");
        EqualBytes(expected, await File.ReadAllBytesAsync(disk));
        await UmountAsync();
    }

    private async Task<string> MakeAsync(string cluster, int refcountBits, string compat, string compression, string backing)
    {
        string options = $"cluster_size={cluster},refcount_bits={refcountBits},compat={compat}";
        options += compression == "zstd" ? ",compression_type=zstd" : "";
        string? below = backing == "none" ? null : await MakeBaseAsync(backing);
        string image = await CreateAsync("top.qcow2", options, Size, below, backing);
        string[] writes =
        [
            "write -P 0x11 100k 300k", "write -P 0x12 3000k 70k", "write -P 0x13 5119k 1k",
            .. compat == "1.1" ? new[] { "write -z 1M 256k", "write -z -u 2M 2M", "discard 4500k 128k" } : [],
        ];
        await QemuImg.IoAsync(image, writes);
        return compression == "none" ? image : await CompressAsync(image, options, below, backing);
    }

    private async Task<string> MakeBaseAsync(string format)
    {
        // Shorter than the overlay: the rest reads as zeros.
        string raw = MakeImage("base.raw", 4_000_256);
        if (format == "raw")
        {
            return raw;
        }

        await QemuImg.RunAsync("convert", "-f", "raw", "-O", "qcow2", raw, this["base.qcow2"]);
        return this["base.qcow2"];
    }

    // Random bytes do not compress, so such clusters stay plain: both kinds are in one image.
    private async Task<string> CompressAsync(string image, string options, string? below, string backing)
    {
        string[] chain = below is null ? [] : ["-B", below, "-F", backing];
        await QemuImg.RunAsync(["convert", "-c", "-f", "qcow2", "-O", "qcow2", "-o", options, .. chain, image, this["compressed.qcow2"]]);
        return this["compressed.qcow2"];
    }
}
