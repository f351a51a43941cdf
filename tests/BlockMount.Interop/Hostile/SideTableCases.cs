namespace BlockMount.Interop.Hostile;

/// <summary>Snapshot tables and bitmap directories.</summary>
internal static class SideTableCases
{
    private const uint BitmapsExtension = 0x23852875;

    internal static IEnumerable<HostileImage> All() => [.. Snapshots(), .. Bitmaps()];

    private static IEnumerable<HostileImage> Snapshots()
    {
        yield return Snapshot("65536 snapshots in a table of one", image => image.Set32(60, 65536));
        yield return Snapshot("4 Gi snapshots", image => image.Set32(60, uint.MaxValue));
        yield return HostileImage.Of("65536 snapshots of zeros in a hole", () => BaseImages.Plain, image =>
        {
            image.Set32(60, 65536).Set64(64, 1 << 30);
            image.FileLength = 2L << 30;
        });
        yield return HostileImage.Of("65536 snapshots with one L1 table", () => BaseImages.WithSnapshot, image => ManySnapshots(image, 65536));
        yield return Snapshot("snapshot with extra data of 4 GiB", image => image.Set32(image.Snapshots + 36, uint.MaxValue));
        yield return Snapshot("snapshot with extra data of 1 KiB that is not there", image => image.Set32(image.Snapshots + 36, 1024));
        yield return Snapshot("snapshot with the longest names", image => image.Set16(image.Snapshots + 12, 65535).Set16(image.Snapshots + 14, 65535));
        yield return Snapshot("snapshot with an L1 table of 4 Gi entries", image => image.Set32(image.Snapshots + 8, uint.MaxValue));
        yield return Snapshot("snapshot with an L1 table past the end", image => image.Set64(image.Snapshots, 1UL << 50));
        yield return Snapshot("snapshot with the L1 table not aligned", image => image.Set64(image.Snapshots, image.U64(image.Snapshots) + 8));
        yield return Snapshot("snapshot with the header as L1 table", image => image.Set64(image.Snapshots, 0));
        yield return Snapshot("snapshot table in the header", image => image.Set64(64, 0));
        yield return Snapshot("snapshot table in the L1 table", image => image.Set64(64, (ulong)image.L1));
        yield return Snapshot("snapshot table past the end", image => image.Set64(64, 1UL << 50));
        yield return Snapshot("snapshot name with control characters", image => image.SetText(image.Snapshots + 40 + (int)image.U32(image.Snapshots + 36), "\u001b[2J\n"));
        yield return Snapshot("snapshot of a disk of 2^63 bytes", image => image.Set64(image.Snapshots + 48, long.MaxValue));
    }

    private static IEnumerable<HostileImage> Bitmaps()
    {
        yield return Bitmap("4 Gi bitmaps", image => image.Set32(Field(image, 0), uint.MaxValue));
        yield return Bitmap("65535 bitmaps in a directory of one", image => image.Set32(Field(image, 0), 65535));
        yield return Bitmap("no bitmap", image => image.Set32(Field(image, 0), 0));
        yield return Bitmap("directory of 2^63 bytes", image => image.Set64(Field(image, 8), 1UL << 63));
        yield return Bitmap("directory of 64 MiB in a hole", image =>
        {
            image.Set32(Field(image, 0), 65535).Set64(Field(image, 8), 64 << 20).Set64(Field(image, 16), 1 << 30);
            image.FileLength = (1L << 30) + (64 << 20);
        });
        yield return Bitmap("directory past the end", image => image.Set64(Field(image, 16), 1UL << 50));
        yield return Bitmap("directory in the header", image => image.Set64(Field(image, 16), 0));
        yield return Bitmap("directory not aligned", image => image.Set64(Field(image, 16), image.U64(Field(image, 16)) + 8));
        yield return Bitmap("table of 4 Gi entries", image => image.Set32(Directory(image) + 8, uint.MaxValue));
        yield return Bitmap("table past the end", image => image.Set64(Directory(image), 1UL << 50));
        yield return Bitmap("table in the header", image => image.Set64(Directory(image), 0));
        yield return Bitmap("table entries: all bits", image => image.Set64((long)image.U64(Directory(image)), ulong.MaxValue));
        yield return Bitmap("table entry: the header", image => image.Set64((long)image.U64(Directory(image)), 0x200));
        yield return Bitmap("granularity 255", image => image.Put(Directory(image) + 17, [255]));
        yield return Bitmap("granularity 0", image => image.Put(Directory(image) + 17, [0]));
        yield return Bitmap("type 255", image => image.Put(Directory(image) + 16, [255]));
        yield return Bitmap("name of 64 KiB", image => image.Set16(Directory(image) + 18, 65535));
        yield return Bitmap("extra data of 4 GiB", image => image.Set32(Directory(image) + 20, uint.MaxValue));
        yield return Bitmap("unknown flags", image => image.Set32(Directory(image) + 12, uint.MaxValue));
    }

    private static long Field(ImageBytes image, int offset) => image.Extension(BitmapsExtension) + 8 + offset;

    private static long Directory(ImageBytes image) => (long)image.U64(Field(image, 16));

    // Entries of the least size, all with the L1 table that the one snapshot has.
    private static void ManySnapshots(ImageBytes image, int count)
    {
        byte[] entry = image.Bytes.AsSpan((int)image.Snapshots, 40).ToArray();
        int table = (image.Bytes.Length + image.ClusterSize - 1) / image.ClusterSize * image.ClusterSize;
        image.Resize(table + (count * 40));
        for (int i = 0; i < count; i++)
        {
            image.Put(table + (i * 40L), entry).Set32(table + (i * 40L) + 12, 0).Set32(table + (i * 40L) + 36, 0);
        }

        image.Set32(60, (uint)count).Set64(64, (ulong)table);
    }

    private static HostileImage Snapshot(string name, Action<ImageBytes> damage) => HostileImage.Of(name, () => BaseImages.WithSnapshot, damage);

    private static HostileImage Bitmap(string name, Action<ImageBytes> damage) => HostileImage.Of($"bitmaps: {name}", () => BaseImages.WithBitmap, damage);
}
