namespace BlockMount.TestSupport.Images;

/// <summary>
/// An image that qemu-img made, loaded into memory: with internal snapshots, with compressed clusters, or both. Tests that use it need "qemu-img" and
/// "qemu-io".
/// </summary>
public sealed class ToolImage
{
    // Small beside the cluster sizes at the lower end, so that one cluster is not like the next.
    private const int BlockSize = 1024;

    private readonly List<(string Name, byte[] Content)> _snapshots = [];

    private ToolImage(TestChain chain)
    {
        Chain = chain;
    }

    /// <summary>The image as the top of a chain without a backing file.</summary>
    public TestChain Chain { get; }

    /// <summary>Makes an image with partly compressible content; every guest cluster is stored at first, unless it holds zeros.</summary>
    /// <param name="geometry">Cluster size, refcount width and virtual size.</param>
    /// <param name="compression">"zlib" or "zstd"; null stores the clusters as they are.</param>
    /// <param name="snapshots">Internal snapshots, with writes of a few sectors after each one.</param>
    public static async Task<ToolImage> CreateAsync(ScratchFolder folder, ImageGeometry geometry, Random random, string? compression, int snapshots)
    {
        byte[] content = Content(geometry.Size, random);
        await QemuImg.SaveAsync(folder["source"], content);
        string options = $"cluster_size={geometry.ClusterSize},refcount_bits={1 << geometry.RefcountOrder},extended_l2={(geometry.ExtendedL2 ? "on" : "off")}";
        string[] convert = compression is null
            ? ["convert", "-f", "raw", "-O", "qcow2", "-o", options]
            : ["convert", "-c", "-f", "raw", "-O", "qcow2", "-o", $"{options},compression_type={compression}"];
        await QemuImg.RunAsync([.. convert, folder["source"], folder["image"]]);
        List<(string, byte[])> taken = [];
        for (int i = 0; i < snapshots; i++)
        {
            taken.Add(($"snapshot{i}", await QemuImg.ReadGuestAsync(folder["image"], folder["guest"])));
            await QemuImg.RunAsync("snapshot", "-c", taken[i].Item1, folder["image"]);
            await QemuImg.IoAsync(folder["image"], SmallWrites(geometry, random));
        }

        byte[] guest = await QemuImg.ReadGuestAsync(folder["image"], folder["guest"]);
        ToolImage image = new(TestChain.Of(await QemuImg.LoadAsync(folder["image"]), geometry, guest));
        image._snapshots.AddRange(taken);
        return image;
    }

    /// <summary>What is wrong about a later state of the image in the eyes of qemu-img: a corrupt file or changed snapshots; null for nothing.</summary>
    public async Task<string?> FindDamageAsync(ScratchFolder folder, ReadOnlyMemory<byte> file)
    {
        await QemuImg.SaveAsync(folder["later"], file);
        QemuImg.Verdict verdict = await QemuImg.CheckAsync(folder["later"]);
        if (!verdict.IsUsable)
        {
            return verdict.Text;
        }

        foreach ((string name, byte[] content) in _snapshots)
        {
            await QemuImg.RunAsync("convert", "-f", "qcow2", "-l", $"snapshot.name={name}", "-O", "raw", folder["later"], folder["guest"]);
            byte[] read = await File.ReadAllBytesAsync(folder["guest"]);
            // The program gives every snapshot the size that the disk has now.
            int common = Math.Min(read.Length, content.Length);
            if (!read.AsSpan(0, common).SequenceEqual(content.AsSpan(0, common)))
            {
                return $"{name} holds another byte at {read.AsSpan().CommonPrefixLength(content)}";
            }
        }

        // Going back needs one reference more for a moment, which two bits may not have.
        return Chain.Geometry.RefcountOrder > 1 ? await FindDamageWhenAppliedAsync(folder) : null;
    }

    // Going back to a snapshot brings its size back too.
    private async Task<string?> FindDamageWhenAppliedAsync(ScratchFolder folder)
    {
        foreach ((string name, byte[] content) in _snapshots)
        {
            await QemuImg.RunAsync("snapshot", "-a", name, folder["later"]);
            byte[] read = await QemuImg.ReadGuestAsync(folder["later"], folder["guest"]);
            if (!read.AsSpan().SequenceEqual(content))
            {
                return $"{name}, applied, has {read.Length} bytes instead of {content.Length}, or another one at {read.AsSpan().CommonPrefixLength(content)}";
            }
        }

        return null;
    }

    // Blocks of zeros, of noise, and of text with few letters.
    private static byte[] Content(long size, Random random)
    {
        byte[] content = new byte[size];
        for (int start = 0; start < content.Length; start += BlockSize)
        {
            Span<byte> block = content.AsSpan(start, Math.Min(BlockSize, content.Length - start));
            int kind = random.Next(8);
            if (kind > 0)
            {
                random.NextBytes(block);
            }

            for (int i = 0; kind > 1 && i < block.Length; i++)
            {
                block[i] = (byte)(0x61 + (block[i] & 3));
            }
        }

        return content;
    }

    private static string[] SmallWrites(ImageGeometry geometry, Random random)
    {
        string[] commands = new string[4];
        for (int i = 0; i < commands.Length; i++)
        {
            long offset = random.NextInt64(geometry.Size / 512) * 512;
            long length = Math.Min(geometry.Size - offset, 512 * random.Next(1, 9));
            commands[i] = $"write -P {random.Next(1, 256)} {QemuImg.Bytes(offset)} {QemuImg.Bytes(length)}";
        }

        return commands;
    }
}
