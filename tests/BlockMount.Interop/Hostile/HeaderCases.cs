namespace BlockMount.Interop.Hostile;

/// <summary>Headers with sizes and offsets at every limit and beyond (RELIABILITY S2 to S4, D9).</summary>
internal static class HeaderCases
{
    private const uint FeatureNames = 0x6803f857;
    private const uint Unknown = 0x12345678;

    internal static IEnumerable<HostileImage> All()
    {
        foreach ((string field, int offset, int bytes) in new[]
        {
            ("backing_file_offset", 8, 8), ("backing_file_size", 16, 4), ("cluster_bits", 20, 4), ("size", 24, 8), ("crypt_method", 32, 4),
            ("l1_size", 36, 4), ("l1_table_offset", 40, 8), ("refcount_table_offset", 48, 8), ("refcount_table_clusters", 56, 4),
            ("nb_snapshots", 60, 4), ("snapshots_offset", 64, 8), ("refcount_order", 96, 4), ("header_length", 100, 4),
        })
        {
            foreach (ulong value in bytes == 8
                ? [1, 0x7fff_ffff_ffff_ffff, 0x8000_0000_0000_0000, ulong.MaxValue]
                : new ulong[] { 1, 0x7fff_ffff, uint.MaxValue })
            {
                yield return HostileImage.Of($"{field} {value:x}", () => BaseImages.Plain, image => Set(image, offset, bytes, value));
            }
        }

        yield return HostileImage.Of("disk of 2^63 - 512 bytes, L1 table of 32 MiB in a hole", () => BaseImages.Plain, image =>
        {
            image.Set64(24, long.MaxValue & ~511L).Set32(36, 4 << 20).Set64(40, 1 << 30);
            image.FileLength = (1L << 30) + (32 << 20);
        });
        yield return HostileImage.Of("refcount table of 8 MiB in a hole", () => BaseImages.Plain, image =>
        {
            image.Set64(48, 1 << 30).Set32(56, 128);
            image.FileLength = (1L << 30) + (8 << 20);
        });
        yield return HostileImage.Of("sparse file of 4 TiB", () => BaseImages.Plain, image => image.FileLength = 4L << 40);
        yield return HostileImage.Of("clusters of 512 bytes in a file of 64 GiB", () => BaseImages.Small, image => image.FileLength = 64L << 30);
        yield return HostileImage.Of("refcount table at offset 0", () => BaseImages.Plain, image => image.Set64(48, 0));
        yield return HostileImage.Of("L1 table at offset 0", () => BaseImages.Plain, image => image.Set64(40, 0), mustBeRefused: true);
        yield return HostileImage.Of("L1 table and refcount table at one place", () => BaseImages.Plain, image => image.Set64(40, image.U64(48)), mustBeRefused: true);
        yield return HostileImage.Of("every incompatible bit", () => BaseImages.Plain, image => image.Set64(72, ulong.MaxValue), mustBeRefused: true);
        yield return HostileImage.Of("every compatible and autoclear bit", () => BaseImages.Plain, image => image.Set64(80, ulong.MaxValue).Set64(88, ulong.MaxValue));
        yield return HostileImage.Of("zstd said and not meant", () => BaseImages.Zlib, image => image.Set64(72, 8).Put(104, [1]));
        yield return HostileImage.Of("compression type 255", () => BaseImages.Plain, image => image.Set64(72, 8).Put(104, [255]), mustBeRefused: true);
        yield return HostileImage.Of("extension of 4 GiB", () => BaseImages.Plain, image => image.Set32(112, Unknown).Set32(116, uint.MaxValue), mustBeRefused: true);
        yield return HostileImage.Of("extensions to the end of the cluster", () => BaseImages.Plain, image =>
        {
            for (long offset = 112; offset < image.ClusterSize; offset += 8)
            {
                image.Set32(offset, Unknown).Set32(offset + 4, 0);
            }
        });
        yield return HostileImage.Of("feature name table with control characters", () => BaseImages.Plain, image =>
        {
            image.Set64(72, 1UL << 40).SetText(image.Extension(FeatureNames) + 8, "\0\u0028\u001b[2J\u001b[31m\nerased");
        }, mustBeRefused: true);
        yield return HostileImage.Of("a header and nothing else", () => BaseImages.Plain, image => image.Resize(112), mustBeRefused: true);
        yield return HostileImage.Of("cut in the middle of the first L2 table", () => BaseImages.Plain, image => image.Resize((int)image.L2 + 100));
    }

    private static void Set(ImageBytes image, int offset, int bytes, ulong value)
    {
        if (bytes == 8)
        {
            image.Set64(offset, value);
            return;
        }

        image.Set32(offset, (uint)value);
    }
}
