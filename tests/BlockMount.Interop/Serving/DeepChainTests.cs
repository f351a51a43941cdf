using BlockMount.TestSupport;
using Xunit;

namespace BlockMount.Interop.Serving;

/// <summary>
/// A chain of many layers that qemu-img and qemu-io made, each of another kind and length: through a mount it reads as qemu-img convert reads it, the first
/// time and the second, while the active layer is written to; and the image is clean afterwards.
/// </summary>
public sealed class DeepChainTests : ServedImageFixture
{
    private const int Size = 8 << 20;
    private const int Layers = 24;

    private static readonly string[] s_options =
        ["cluster_size=65536", "cluster_size=4096", "cluster_size=512", "cluster_size=65536,extended_l2=on", "cluster_size=2097152", "cluster_size=16384,compat=0.10"];

    [RequiresTheory(Needs.Release | Needs.Fuse, "qemu-img", "qemu-io")]
    [InlineData(1, "")]
    [InlineData(2, "")]
    [InlineData(3, "cache-size=64k")]
    [InlineData(4, "cache-size=1k")]
    public async Task Mount_ManyDifferentLayers_ReadsAsQemuImgConvert(int seed, string options)
    {
        Random random = new(seed);
        string image = await MakeAsync(random);
        byte[] model = await QemuImg.ReadGuestAsync(image, this["expected.raw"]);
        string path = await MountAsync(image, [.. options.Length == 0 ? Array.Empty<string>() : ["-o", options]]);
        await using (FileStream disk = OpenDisk(path))
        {
            // In pieces anywhere, then from end to end.
            for (int i = 0; i < 2000; i++)
            {
                int offset = random.Next(Size - 1);
                byte[] piece = new byte[random.Next(1, Math.Min(20_000, Size - offset))];
                Assert.Equal(piece.Length, RandomAccess.Read(disk.SafeFileHandle, piece, offset));
                EqualBytes(model[offset..(offset + piece.Length)], piece);
                if (i % 10 == 0)
                {
                    random.NextBytes(piece);
                    RandomAccess.Write(disk.SafeFileHandle, piece, offset);
                    piece.CopyTo(model, offset);
                }
            }

            EqualBytes(model, await ReadAllAsync(disk));
            EqualBytes(model, await ReadAllAsync(disk));
        }

        await UmountAsync();
        await ImageIsCleanAndEqualsAsync(image, model);
    }

    private static async Task<byte[]> ReadAllAsync(FileStream disk)
    {
        byte[] all = new byte[Size];
        disk.Position = 0;
        await disk.ReadExactlyAsync(all);
        return all;
    }

    private async Task<string> MakeAsync(Random random)
    {
        string below = MakeImage("base.raw", 5_000_192);
        string format = "raw";
        for (int layer = 1; layer <= Layers; layer++)
        {
            // Some are shorter than what is above and below them.
            long size = layer == Layers ? Size : (long)random.Next(Size / 2 / 512, (Size * 5 / 4) / 512) * 512;
            string options = s_options[random.Next(s_options.Length)];
            string image = await CreateAsync($"layer{layer}.qcow2", options, size, below, format);
            await QemuImg.IoAsync(image, [.. Enumerable.Range(0, 6).Select(number => Command(random, size, layer, options, number))]);
            (below, format) = (image, "qcow2");
        }

        return below;
    }

    private static string Command(Random random, long size, int layer, string options, int number)
    {
        long offset = random.NextInt64(size / 512) * 512;
        long length = Math.Min(size - offset, 512L * random.Next(1, 800));
        if (number == 0 && random.Next(2) == 0)
        {
            // QEMU refuses it where something has been written already; it takes whole clusters of any size.
            return $"write -c -P {layer + 1} {QemuImg.Bytes(random.NextInt64(size / (2 << 20)) * (2 << 20))} 2M";
        }

        // Version 2 has no zero clusters.
        return (options.Contains("compat", StringComparison.Ordinal) ? 5 : random.Next(6)) switch
        {
            0 => $"write -z -u {QemuImg.Bytes(offset)} {QemuImg.Bytes(length)}",
            1 => $"write -z {QemuImg.Bytes(offset)} {QemuImg.Bytes(length)}",
            2 => $"discard {QemuImg.Bytes(offset)} {QemuImg.Bytes(length)}",
            _ => $"write -P {layer + 1} {QemuImg.Bytes(offset)} {QemuImg.Bytes(length)}",
        };
    }
}
