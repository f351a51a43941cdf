namespace BlockMount.Interop.Hostile;

/// <summary>Overlapping and self-referencing tables, and entries that lead to where no data can be (RELIABILITY S20, D4, D7).</summary>
internal static class TableCases
{
    private const ulong Copied = 1UL << 63;
    private const ulong Compressed = 1UL << 62;
    private const ulong EndOfOffsets = 0x00ff_ffff_ffff_fe00;

    internal static IEnumerable<HostileImage> All() => [.. Guest(), .. Refcounts(), .. Subclusters(), .. Streams()];

    private static IEnumerable<HostileImage> Guest()
    {
        yield return Plain("L1 entry: the header", image => image.Set64(image.L1, Copied));
        yield return Plain("L1 entry: the L1 table itself", image => image.Set64(image.L1, Copied | (ulong)image.L1));
        yield return Plain("L1 entry: the refcount table", image => image.Set64(image.L1, Copied | (ulong)image.RefcountTable));
        yield return Plain("L1 entry: a refcount block", image => image.Set64(image.L1, Copied | (ulong)image.RefcountBlock));
        yield return Plain("L1 entry: a data cluster", image => image.Set64(image.L1, Copied | (ulong)image.Data));
        yield return Plain("L1 entry: not aligned", image => image.Set64(image.L1, image.U64(image.L1) + 512));
        yield return Plain("L1 entry: the largest offset", image => image.Set64(image.L1, Copied | EndOfOffsets));
        yield return Plain("L1 entry: past the end", image => image.Set64(image.L1, Copied | 1UL << 40));
        yield return Plain("L1 entry: all bits", image => image.Set64(image.L1, ulong.MaxValue));
        yield return HostileImage.Of("4 Mi L1 entries, all with one L2 table", () => BaseImages.Plain, image =>
        {
            ulong entry = image.U64(image.L1) & ~Copied;
            int table = image.Bytes.Length;
            image.Resize(table + (32 << 20)).Set64(24, 1UL << 50).Set32(36, 4 << 20).Set64(40, (ulong)table).Fill64(table, 4 << 20, entry);
        });
        yield return HostileImage.Of("every L1 entry with one L2 table of 64 entries", () => BaseImages.Small, image =>
            image.Fill64(image.L1, (int)image.U32(36), image.U64(image.L1)));
        yield return Plain("L2 entry: the header", image => image.Set64(image.L2, Copied | 0x200));
        yield return Plain("L2 entry: the L1 table", image => image.Set64(image.L2, Copied | (ulong)image.L1));
        yield return Plain("L2 entry: its own table", image => image.Set64(image.L2, Copied | (ulong)image.L2));
        yield return Plain("L2 entry: the refcount table", image => image.Set64(image.L2, Copied | (ulong)image.RefcountTable));
        yield return Plain("L2 entry: a refcount block", image => image.Set64(image.L2, Copied | (ulong)image.RefcountBlock));
        yield return Plain("L2 entry: not aligned", image => image.Set64(image.L2, image.U64(image.L2) + 512));
        yield return Plain("L2 entry: the largest offset", image => image.Set64(image.L2, Copied | EndOfOffsets));
        yield return Plain("L2 entry: all bits", image => image.Set64(image.L2, ulong.MaxValue));
        yield return Plain("L2 entry: preallocated zeros on the header", image => image.Set64(image.L2, Copied | 0x200 | 1));
        yield return Plain("every L2 entry: one cluster", image => image.Fill64(image.L2, image.ClusterSize / 8, image.U64(image.L2)));
        yield return Plain("every L2 entry: its own table", image => image.Fill64(image.L2, image.ClusterSize / 8, Copied | (ulong)image.L2));
        yield return HostileImage.Of("version 2 with zero flags", () => BaseImages.Version2, image => image.Set64(image.L2, image.U64(image.L2) | 1));
    }

    private static IEnumerable<HostileImage> Refcounts()
    {
        yield return Plain("refcount table: no block at all", image => image.Set64(image.RefcountTable, 0));
        yield return Plain("refcount table: the header as a block", image => image.Set64(image.RefcountTable, 0x200));
        yield return Plain("refcount table: itself as a block", image => image.Set64(image.RefcountTable, (ulong)image.RefcountTable));
        yield return Plain("refcount table: the L2 table as a block", image => image.Set64(image.RefcountTable, (ulong)image.L2));
        yield return Plain("refcount table: a data cluster as a block", image => image.Set64(image.RefcountTable, (ulong)image.Data));
        yield return Plain("refcount table: a block past the end", image => image.Set64(image.RefcountTable, 1UL << 40));
        yield return Plain("refcount table: a block not aligned", image => image.Set64(image.RefcountTable, (ulong)image.RefcountBlock + 512));
        yield return Plain("refcount table: all bits", image => image.Fill64(image.RefcountTable, image.ClusterSize / 8, ulong.MaxValue));
        yield return Plain("refcount table: one block for everything", image =>
            image.Fill64(image.RefcountTable, image.ClusterSize / 8, (ulong)image.RefcountBlock));
        yield return Plain("refcounts: everything free", image => image.Put(image.RefcountBlock, new byte[image.ClusterSize]));
        yield return Plain("refcounts: everything at the limit", image => image.Fill64(image.RefcountBlock, image.ClusterSize / 8, ulong.MaxValue));
        yield return Plain("refcounts: only metadata is free", image =>
        {
            foreach (long metadata in new[] { 0, image.L1, image.L2, image.RefcountTable, image.RefcountBlock })
            {
                image.Set16(image.RefcountBlock + (metadata / image.ClusterSize * 2), 0);
            }
        });
    }

    private static IEnumerable<HostileImage> Subclusters()
    {
        yield return HostileImage.Of("subclusters: allocated and zero", () => BaseImages.Subclusters, image => image.Set64(image.L2 + 8, ulong.MaxValue));
        yield return HostileImage.Of("subclusters: allocated without a cluster", () => BaseImages.Subclusters, image => image.Set64(image.L2, 0));
        yield return HostileImage.Of("subclusters: the zero bit of plain entries", () => BaseImages.Subclusters, image => image.Set64(image.L2, image.U64(image.L2) | 1));
        yield return HostileImage.Of("subclusters in clusters of 4 KiB", () => BaseImages.Plain, image => image.Set64(72, 16).Set32(20, 12));
        yield return HostileImage.Of("plain entries taken for subclusters", () => BaseImages.Plain, image => image.Set64(72, 16));
    }

    private static IEnumerable<HostileImage> Streams()
    {
        foreach ((string type, Func<Task<byte[]>> source) in new[] { ("zlib", (Func<Task<byte[]>>)(() => BaseImages.Zlib)), ("zstd", () => BaseImages.Zstd) })
        {
            yield return HostileImage.Of($"{type}: stream past the end", source, image => image.Set64(image.L2, Compressed | 1UL << 40));
            yield return HostileImage.Of($"{type}: stream in the header", source, image => image.Set64(image.L2, Compressed));
            yield return HostileImage.Of($"{type}: stream in its own table", source, image => image.Set64(image.L2, Compressed | (ulong)image.L2));
            yield return HostileImage.Of($"{type}: all bits", source, image => image.Set64(image.L2, ulong.MaxValue));
            yield return HostileImage.Of($"{type}: the longest stream for every cluster", source, image =>
                image.Fill64(image.L2, image.ClusterSize / 8, image.U64(image.L2) | 0x3fUL << 54));
            yield return HostileImage.Of($"{type}: noise", source, image =>
            {
                byte[] noise = new byte[4096];
                new Random(1).NextBytes(noise);
                image.Put(Stream(image), noise.AsSpan(0, (int)Math.Min(noise.Length, image.Bytes.Length - Stream(image))));
            });
        }

        // Expands to 256 MiB, of which one cluster is wanted.
        yield return HostileImage.Of("zlib: a bomb", () => BaseImages.Zlib, image => Bomb(image, Bombs.Deflate()));
        yield return HostileImage.Of("zstd: a bomb", () => BaseImages.Zstd, image => Bomb(image, Bombs.Zstd()));
        yield return HostileImage.Of("zstd: a window of 128 MiB", () => BaseImages.Zstd, image => image.Put(Stream(image), [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x88]));
        yield return HostileImage.Of("zstd: empty frames without end", () => BaseImages.Zstd, image =>
        {
            byte[] frame = [0x28, 0xb5, 0x2f, 0xfd, 0x20, 0x00, 0x01, 0x00, 0x00];
            byte[] frames = new byte[65_536 / frame.Length * frame.Length];
            for (int i = 0; i < frames.Length; i += frame.Length)
            {
                frame.CopyTo(frames, i);
            }

            Bomb(image, frames);
        });
    }

    private static long Stream(ImageBytes image) => (long)(image.U64(image.L2) & ((1UL << 54) - 1));

    // The stream goes behind the end of the file, and every entry of the table leads to it.
    private static void Bomb(ImageBytes image, ReadOnlySpan<byte> stream)
    {
        int offset = (image.Bytes.Length + 511) & ~511;
        int sectors = Math.Min((stream.Length + 511) / 512, 256);
        image.Resize(offset + (sectors * 512)).Put(offset, stream[..Math.Min(stream.Length, sectors * 512)]);
        image.Fill64(image.L2, 64, Compressed | ((ulong)(sectors - 1) << 54) | (uint)offset);
    }

    private static HostileImage Plain(string name, Action<ImageBytes> damage) => HostileImage.Of(name, () => BaseImages.Plain, damage);
}
