namespace BlockMount.Interop.Hostile;

/// <summary>
/// Tables in holes and files as long as the file system allows: a few bytes that ask for the work of a large image. What a check may cost depends on what
/// the file holds.
/// </summary>
internal static class SparseCases
{
    private const uint BitmapsExtension = 0x23852875;
    private const uint DataFileExtension = 0x44415441;
    private const uint EncryptionExtension = 0x0537be77;
    private const ulong Copied = 1UL << 63;
    private const int Snapshots = 65536;
    private const int SnapshotBytes = 40;
    private const int Bitmaps = 65535;
    private const int BitmapBytes = 32;
    private const int L1EntriesMax = 4 << 20;
    private const long Hole = 1L << 30;

    // ext4 allows a page less than 16 TiB.
    private const long Giant = (16L << 40) - (64 << 10);

    private static readonly (string Size, Func<Task<byte[]>> Source)[] s_bases = [("64 KiB", () => BaseImages.Plain), ("512 bytes", () => BaseImages.Small)];

    internal static IEnumerable<HostileImage> All() => [.. SnapshotTables(), .. GuestTables(), .. BitmapTables(), .. Giants(), .. Others()];

    private static IEnumerable<HostileImage> SnapshotTables()
    {
        foreach ((string size, Func<Task<byte[]>> source) in s_bases)
        {
            yield return HostileImage.Of($"65536 snapshots, L1 tables of 32 MiB over each other in a hole, clusters of {size}", source, image =>
                ManySnapshots(image, image.ClusterSize, _ => L1EntriesMax));
            yield return HostileImage.Of($"65536 snapshots, one L1 table of 32 MiB in a hole, clusters of {size}", source, image =>
                ManySnapshots(image, step: 0, _ => L1EntriesMax));
            yield return HostileImage.Of($"65536 snapshots, L1 tables of every length at one place, clusters of {size}", source, image =>
                ManySnapshots(image, step: 0, i => i + 1));
            yield return HostileImage.Of($"65536 snapshots, small L1 tables side by side in a hole, clusters of {size}", source, image =>
                ManySnapshots(image, 64 << 10, _ => 64));
            yield return HostileImage.Of($"65536 snapshots, L1 tables of every length lost, clusters of {size}", source, image =>
            {
                image.Fill64(image.RefcountBlock, image.ClusterSize / 8, 0x0001_0001_0001_0001);
                ManySnapshots(image, step: 0, i => i + 1, misplaced: 8);
            });
        }

        yield return HostileImage.Of("65536 snapshots, L1 tables of 32 MiB side by side in a hole", () => BaseImages.Plain, image =>
            ManySnapshots(image, 32 << 20, _ => L1EntriesMax));
    }

    private static IEnumerable<HostileImage> GuestTables()
    {
        foreach ((string size, Func<Task<byte[]>> source) in s_bases)
        {
            yield return HostileImage.Of($"1 Mi L2 tables in a hole, clusters of {size}", source, image => ManyL2Tables(image, 1 << 20, image.ClusterSize));
            yield return HostileImage.Of($"a data file, and 4 Mi L1 entries with one L2 table in a hole, clusters of {size}", source, image =>
            {
                ManyL2Tables(image, L1EntriesMax, step: 0);
                image.Set64(72, 4).OnlyExtension(DataFileExtension, "data");
            });
        }
    }

    private static IEnumerable<HostileImage> BitmapTables()
    {
        foreach ((string size, Func<Task<byte[]>> source) in s_bases)
        {
            yield return HostileImage.Of($"65535 bitmaps with one table of the largest size, clusters of {size}", source, image =>
                ManyBitmaps(image, step: 0, (512 << 20) / image.ClusterSize));
            yield return HostileImage.Of($"65535 bitmaps, tables of the largest size over each other, clusters of {size}", source, image =>
                ManyBitmaps(image, image.ClusterSize, (512 << 20) / image.ClusterSize));
        }

        yield return HostileImage.Of("65535 bitmaps, tables of 1 GiB over each other", () => BaseImages.Plain, image => ManyBitmaps(image, image.ClusterSize, 1 << 27));
    }

    private static IEnumerable<HostileImage> Giants()
    {
        foreach ((string size, Func<Task<byte[]>> source) in s_bases)
        {
            yield return HostileImage.Of($"sparse file of 16 TiB, clusters of {size}", source, image => image.FileLength = Giant);
            yield return HostileImage.Of($"sparse file of 16 TiB with a leak, clusters of {size}", source, image =>
            {
                image.Set16(image.RefcountBlock + image.ClusterSize - 2, 1);
                image.FileLength = Giant;
            });
            yield return HostileImage.Of($"L2 entries all over a file of 16 TiB, clusters of {size}", source, image =>
            {
                image.FileLength = Giant;
                int entries = image.ClusterSize / 8;
                for (int i = 0; i < entries; i++)
                {
                    image.Set64(image.L2 + (i * 8), Copied | (ulong)(((Giant / entries * i) & -image.ClusterSize) + (1 << 20)));
                }
            });
        }

        yield return HostileImage.Of("refcount table of 8 MiB, one block for a file of 16 TiB", () => BaseImages.Plain, image =>
        {
            ulong block = (ulong)image.RefcountBlock;
            int table = image.Bytes.Length;
            image.Resize(table + (8 << 20)).Set64(48, (ulong)table).Set32(56, (8 << 20) / (uint)image.ClusterSize).Fill64(table, 1 << 20, block);
            image.FileLength = Giant;
        });
    }

    private static IEnumerable<HostileImage> Others()
    {
        yield return HostileImage.Of("encryption header of 16 TiB", () => BaseImages.Plain, image =>
        {
            long header = image.OnlyExtension(EncryptionExtension, new string('\0', 16)).Extension(EncryptionExtension) + 8;
            image.Set64(header, Hole).Set64(header + 8, (ulong)(Giant - Hole));
            image.FileLength = Giant;
        });
    }

    private static void ManySnapshots(ImageBytes image, long step, Func<int, int> entries, int misplaced = 0)
    {
        int table = Aligned(image);
        image.Resize(table + (Snapshots * SnapshotBytes)).Set32(60, Snapshots).Set64(64, (ulong)table);
        for (int i = 0; i < Snapshots; i++)
        {
            image.Set64(table + (i * SnapshotBytes), (ulong)(Hole + (i * step) + misplaced)).Set32(table + (i * SnapshotBytes) + 8, (uint)entries(i));
        }

        image.FileLength = Hole + (Snapshots * step) + (32 << 20);
    }

    private static void ManyL2Tables(ImageBytes image, int entries, long step)
    {
        int table = Aligned(image);
        long coverage = (long)image.ClusterSize * (image.ClusterSize / 8);
        image.Resize(table + (entries * 8)).Set64(24, (ulong)(entries * coverage)).Set32(36, (uint)entries).Set64(40, (ulong)table);
        for (int i = 0; i < entries; i++)
        {
            image.Set64(table + (i * 8), (ulong)(Hole + (i * step)));
        }

        image.FileLength = Hole + (entries * step) + image.ClusterSize;
    }

    private static void ManyBitmaps(ImageBytes image, long step, int tableEntries)
    {
        int directory = Aligned(image);
        long extension = image.OnlyExtension(BitmapsExtension, new string('\0', 24)).Extension(BitmapsExtension) + 8;
        image.Resize(directory + (Bitmaps * BitmapBytes)).Set64(88, 1);
        image.Set32(extension, Bitmaps).Set64(extension + 8, Bitmaps * BitmapBytes).Set64(extension + 16, (ulong)directory);
        for (int i = 0; i < Bitmaps; i++)
        {
            long place = directory + (i * BitmapBytes);
            image.Set64(place, (ulong)(Hole + (i * step))).Set32(place + 8, (uint)tableEntries).Put(place + 16, [1, 16]).Set16(place + 18, 8);
            image.SetText(place + 24, $"{i:x8}");
        }

        image.FileLength = Hole + (Bitmaps * step) + (tableEntries * 8L);
    }

    private static int Aligned(ImageBytes image) => (image.Bytes.Length + image.ClusterSize - 1) / image.ClusterSize * image.ClusterSize;
}
