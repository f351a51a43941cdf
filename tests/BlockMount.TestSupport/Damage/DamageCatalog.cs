using static BlockMount.TestSupport.Damage.ImageSurgeon;

namespace BlockMount.TestSupport.Damage;

/// <summary>The damages that check and repair are measured by.</summary>
public static class DamageCatalog
{
    private const long Far = 1L << 40;

    /// <summary>All cases.</summary>
    public static IReadOnlyList<DamageCase> All { get; } =
    [
        .. Refcounts(), .. RefcountStructure(), .. L1Entries(), .. L2Entries(), .. CompressedAndSubclusters(), .. Snapshots(), .. Bitmaps(), .. Others(),
    ];

    /// <summary>The case of that name.</summary>
    public static DamageCase Get(string name) => All.Single(damage => damage.ToString() == name);

    private static IEnumerable<DamageCase> Refcounts()
    {
        foreach (string recipe in new[] { "512", "4k", "64k", "2M", "v2", "1bit", "64bit" })
        {
            yield return new DamageCase("refcount of data is 0", recipe, i => i.SetRefcount(i.Data(1), 0));
            yield return new DamageCase("data cluster leaked", recipe, i => i.SetL2(1, 0)) { Dropped = [1] };
        }

        yield return new DamageCase("refcount of data is 2", "4k", i => i.SetRefcount(i.Data(2), 2));
        yield return new DamageCase("refcount of data is 65535", "4k", i => i.SetRefcount(i.Data(2), 65535));
        yield return new DamageCase("refcount of data is 2^64-1", "64bit", i => i.SetRefcount(i.Data(2), ulong.MaxValue));
        yield return new DamageCase("refcount of an L2 table is 0", "4k", i => i.SetRefcount(i.L2Table(0), 0));
        yield return new DamageCase("refcount of the L1 table is 0", "4k", i => i.SetRefcount(i.L1Offset, 0));
        yield return new DamageCase("refcount of the header is 0", "512", i => i.SetRefcount(0, 0));
        yield return new DamageCase("refcount of a refcount block is 0", "4k", i => i.SetRefcount((long)i.RefcountTable(0), 0));
        yield return new DamageCase("refcount of the refcount table is 2", "4k", i => i.SetRefcount(i.RefcountTableOffset, 2));
        yield return new DamageCase("all refcounts of a range are 0", "2bit", i =>
        {
            for (int cluster = 20; cluster < 40; cluster++)
            {
                i.SetRefcount(cluster * (long)i.ClusterSize, 0);
            }
        });
        yield return new DamageCase("shared data has refcount 1", "snapshots", i => i.SetRefcount(i.Data(0), 1));
        yield return new DamageCase("shared data has refcount 2 of 3", "8bit", i => i.SetRefcount(i.Data(0), 2));
        yield return new DamageCase("shared data has refcount 4", "snapshots", i => i.SetRefcount(i.Data(0), 4));
        yield return new DamageCase("refcount block is zeroed", "512", i =>
        {
            for (int cluster = 0; cluster < i.BlockEntries; cluster++)
            {
                i.SetRefcount(cluster * (long)i.ClusterSize, 0);
            }
        });
        yield return new DamageCase("refcount block is noise", "4k", i => i.Scribble((long)i.RefcountTable(0), 2048));
    }

    private static IEnumerable<DamageCase> RefcountStructure()
    {
        foreach (string recipe in new[] { "512", "4k", "1bit", "64bit", "v2-snapshots" })
        {
            yield return new DamageCase("refcount table entry is 0", recipe, i => i.SetRefcountTable(0, 0));
        }

        yield return new DamageCase("second refcount table entry is 0", "512", i => i.SetRefcountTable(1, 0));
        yield return new DamageCase("refcount block misaligned", "4k", i => i.SetRefcountTable(0, i.RefcountTable(0) + 512));
        yield return new DamageCase("refcount table entry has reserved bits", "4k", i => i.SetRefcountTable(0, i.RefcountTable(0) | 4));
        yield return new DamageCase("refcount block outside the file", "4k", i => i.SetRefcountTable(0, (ulong)i.End + 0x40000));
        yield return new DamageCase("a further refcount block outside the file", "4k", i => i.SetRefcountTable(1, (ulong)i.End + 0x40000));
        yield return new DamageCase("refcount block far outside", "4k", i => i.SetRefcountTable(1, 1UL << 55));
        yield return new DamageCase("two refcount blocks at one place", "512", i => i.SetRefcountTable(1, i.RefcountTable(0)));
        yield return new DamageCase("refcount block is an L2 table", "4k", i => i.SetRefcountTable(1, (ulong)i.L2Table(0)));
        yield return new DamageCase("refcount block is guest data", "4k", i => i.SetRefcountTable(1, (ulong)i.Data(3)));
        yield return new DamageCase("refcount block is the header", "4k", i => i.SetRefcountTable(0, (ulong)i.RefcountTableOffset));
        yield return new DamageCase("refcount table is noise", "4k", i => i.Scribble(i.RefcountTableOffset, 256));
        yield return new DamageCase("refcount table has no clusters", "4k", i => i.SetU32(56, 0));
        yield return new DamageCase("refcount table is outside the file", "4k", i => i.SetU64(48, (ulong)i.End + 0x100000));
    }

    private static IEnumerable<DamageCase> L1Entries()
    {
        foreach (string recipe in new[] { "512", "4k", "snapshots" })
        {
            yield return new DamageCase("L1 COPIED cleared or set", recipe, i => i.SetL1(0, i.L1(0) ^ Copied));
            yield return new DamageCase("L1 entry misaligned", recipe, i => i.SetL1(0, i.L1(0) + 0x200 | (i.ClusterSize == 512 ? 0x100UL : 0)));
            yield return new DamageCase("L1 entry outside the file", recipe, i => i.SetL1(0, ((ulong)i.End + 0x100000) | Copied));
            yield return new DamageCase("L1 entry has reserved bits", recipe, i => i.SetL1(0, i.L1(0) | (1UL << 57) | 1));
        }

        yield return new DamageCase("L1 entry is 0 with COPIED", "4k", i => i.SetL1(1, Copied));
        yield return new DamageCase("L1 entry dropped", "512", i => i.SetL1(1, 0)) { Dropped = [.. Enumerable.Range(64, 64)] };
        yield return new DamageCase("two L1 entries to one table", "512", i => i.SetL1(1, i.L1(0))) { Dropped = [.. Enumerable.Range(64, 64)] };
        yield return new DamageCase("L1 entry to the L1 table", "4k", i => i.SetL1(0, (ulong)i.L1Offset | Copied));
        yield return new DamageCase("L1 entry to the header", "4k", i => i.SetL1(1, 0x200));
        yield return new DamageCase("L1 entry to the refcount table", "4k", i => i.SetL1(0, (ulong)i.RefcountTableOffset | Copied));
        yield return new DamageCase("L1 entry to a refcount block", "4k", i => i.SetL1(0, i.RefcountTable(0) | Copied));
        yield return new DamageCase("L1 entry to guest data", "4k", i => i.SetL1(0, (ulong)i.Data(4) | Copied));
        yield return new DamageCase("L1 table outside the file", "4k", i => i.SetU64(40, (ulong)i.End + 0x100000)) { Dropped = [.. Enumerable.Range(0, 1024)] };
    }

    private static IEnumerable<DamageCase> L2Entries()
    {
        foreach (string recipe in new[] { "512", "4k", "64k", "v2" })
        {
            yield return new DamageCase("L2 COPIED cleared", recipe, i => i.SetL2(1, i.L2(1) & ~Copied));
            yield return new DamageCase("L2 entry outside the file", recipe, i => i.SetL2(1, Far | Copied));
        }

        foreach (string recipe in new[] { "4k", "64k", "v2", "subclusters" })
        {
            yield return new DamageCase("L2 entry misaligned", recipe, i => i.SetL2(1, i.L2(1) + 0x200));
            yield return new DamageCase("L2 entry misaligned to a place of others", recipe, i => i.SetL2(1, i.L2(0) + 0x400));
        }

        yield return new DamageCase("L2 entry just outside the file", "4k", i => i.SetL2(1, (ulong)i.End | Copied));
        yield return new DamageCase("L2 entry behind a partial cluster", "4k", i =>
        {
            i.SetLength(i.Length - 100);
            i.SetL2(1, ((ulong)i.End - 0x800) | Copied);
        })
        { Dropped = [540] };
        yield return new DamageCase("L2 entry has reserved bits", "4k", i => i.SetL2(1, i.L2(1) | 2 | (1UL << 60)));
        yield return new DamageCase("zero bit in version 2", "v2", i => i.SetL2(1, i.L2(1) | 1)) { QemuDiffers = "QEMU reads the reserved bit 0 of version 2 as zeros and does not report it" };
        yield return new DamageCase("two L2 entries to one cluster", "4k", i => i.SetL2(2, i.L2(1))) { Dropped = [2] };
        yield return new DamageCase("two L2 entries to one cluster", "1bit", i => i.SetL2(2, i.L2(1))) { Dropped = [2] };
        yield return new DamageCase("two L1 entries to one table", "1bit", i => i.SetL1(1, i.L1(0))) { Dropped = [.. Enumerable.Range(64, 64)] };
        yield return new DamageCase("two counted L2 entries to one cluster", "4k", i =>
        {
            i.SetRefcount(i.Data(2), 0);
            i.SetRefcount(i.Data(1), 2);
            i.SetL2(1, i.L2(1) & ~Copied);
            i.SetL2(2, i.L2(1));
        })
        { Dropped = [2] };
        yield return new DamageCase("L2 entry to the header", "4k", i => i.SetL2(2, Copied | 0x1000));
        yield return new DamageCase("L2 entry to its own table", "4k", i => i.SetL2(2, (ulong)i.L2Table(0) | Copied));
        yield return new DamageCase("L2 entry to the L1 table", "4k", i => i.SetL2(2, (ulong)i.L1Offset | Copied));
        yield return new DamageCase("L2 entry to a refcount block", "4k", i => i.SetL2(2, i.RefcountTable(0) | Copied));
        yield return new DamageCase("counted L2 entry to the L1 table", "4k", i =>
        {
            i.SetRefcount(i.L1Offset, 2);
            i.SetRefcount(i.Data(2), 0);
            i.SetL2(2, (ulong)i.L1Offset);
        })
        { QemuDiffers = "QEMU compares counts only: an L1 table that is guest data as well has the right one" };
        yield return new DamageCase("L2 table is noise", "4k", i => i.Scribble(i.L2Table(0), 4096)) { Dropped = [.. Enumerable.Range(0, 512)] };
        yield return new DamageCase("L2 table is noise", "512", i => i.Scribble(i.L2Table(0), 512)) { Dropped = [.. Enumerable.Range(0, 64)] };
        yield return new DamageCase("preallocated zero cluster misaligned", "zeros", i => i.SetL2(5, i.L2(5) + 0x600));
        yield return new DamageCase("preallocated zero cluster outside the file", "zeros", i => i.SetL2(5, Far | Copied | 1));
        yield return new DamageCase("preallocated zero cluster not COPIED", "zeros", i => i.SetL2(5, i.L2(5) & ~Copied));
        yield return new DamageCase("all COPIED flags cleared", "everything", i =>
        {
            for (int cluster = 0; cluster < 90; cluster++)
            {
                i.SetL2(cluster, i.L2(cluster) & ~Copied);
            }
        });
    }

    private static IEnumerable<DamageCase> CompressedAndSubclusters()
    {
        yield return new DamageCase("compressed cluster is COPIED", "compressed", i => i.SetL2(1, i.L2(1) | Copied));
        yield return new DamageCase("compressed cluster outside the file", "compressed", i => i.SetL2(1, Compressed | (ulong)Far));
        yield return new DamageCase("compressed cluster over metadata", "compressed", i => i.SetL2(1, Compressed | (ulong)i.L1Offset));
        yield return new DamageCase("compressed cluster with too many sectors", "compressed", i => i.SetL2(1, i.L2(1) | (7UL << 58)));
        yield return new DamageCase("compressed cluster leaked", "compressed", i => i.SetL2(1, 0)) { Dropped = [1] };
        yield return new DamageCase("refcount of compressed clusters is 1", "compressed", i => i.SetRefcount((long)(i.L2(1) & 0xfffffffffff), 1));
        yield return new DamageCase("data cluster calls itself compressed", "4k", i => i.SetL2(1, i.L2(1) | Compressed)) { Dropped = [1] };
        yield return new DamageCase("compressed cluster with subclusters", "compressed-subclusters", i => i.SetSubclusters(1, 1));
        yield return new DamageCase("subclusters allocated and zero", "subclusters", i => i.SetSubclusters(1, i.Subclusters(1) | (3UL << 32)));
        yield return new DamageCase("subclusters of an unallocated cluster allocated", "subclusters", i => i.SetSubclusters(20, 3));
        yield return new DamageCase("reserved bit 0 with subclusters", "subclusters", i => i.SetL2(1, i.L2(1) | 1)) { QemuDiffers = "QEMU does not look at bit 0 of extended L2 entries" };
        yield return new DamageCase("preallocated cluster with subclusters misaligned", "subclusters", i =>
        {
            i.SetL2(1, i.L2(1) + 0x200);
            i.SetSubclusters(1, 0xffffffff00000000);
        })
        { Dropped = [1] };
        yield return new DamageCase("COPIED cleared with subclusters", "subclusters", i => i.SetL2(1, i.L2(1) & ~Copied));
    }

    private static IEnumerable<DamageCase> Snapshots()
    {
        yield return new DamageCase("snapshot's L1 table misaligned", "snapshots", i => i.SetU64(i.Snapshot(0), (ulong)i.SnapshotL1(0) + 0x200));
        yield return new DamageCase("snapshot's L1 table outside the file", "snapshots", i => i.SetU64(i.Snapshot(0), (ulong)i.End + 0x100000));
        yield return new DamageCase("snapshot's L1 table too large", "snapshots", i => i.SetU32(i.Snapshot(0) + 8, 0x700000));
        yield return new DamageCase("snapshot's L1 entry misaligned", "snapshots", i => i.SetU64(i.SnapshotL1(0), i.U64(i.SnapshotL1(0)) + 0x200));
        yield return new DamageCase("snapshot's L1 entry outside the file", "snapshots", i => i.SetU64(i.SnapshotL1(1), (ulong)i.End + 0x100000));
        yield return new DamageCase("snapshot's L1 entry has reserved bits", "snapshots", i => i.SetU64(i.SnapshotL1(1), i.U64(i.SnapshotL1(1)) | 2));
        yield return new DamageCase("snapshot's L1 table is the active one", "snapshots", i => i.SetU64(i.Snapshot(0), (ulong)i.L1Offset)) { DroppedSnapshots = ["snapshot0"] };
        yield return new DamageCase("snapshot without the extra data of version 3", "snapshots", i =>
        {
            // The snapshot's names move into the place of the extra data; the rest of the entry is padding of the name.
            long place = i.Snapshot(1);
            i.SetU32(place + 36, 0);
            i.SetU32(place + 12, (1 << 16) | 1);
            i.SetU64(place + 40, 0x3278000000000000);
        })
        { DroppedSnapshots = ["snapshot1"] };
        yield return new DamageCase("snapshot with too much extra data", "snapshots", i => i.SetU32(i.Snapshot(1) + 36, 2000)) { DroppedSnapshots = ["snapshot1"] };
        yield return new DamageCase("snapshot table outside the file", "snapshots", i => i.SetU64(64, (ulong)i.End + 0x100000)) { DroppedSnapshots = ["snapshot0", "snapshot1"] };
        yield return new DamageCase("snapshot forgotten", "snapshots", i => i.SetU32(60, 1)) { DroppedSnapshots = ["snapshot1"] };
        yield return new DamageCase("more snapshots than the table has", "snapshots", i => i.SetU32(60, 3));
        yield return new DamageCase("refcount of a snapshot's L1 table is 0", "snapshots", i => i.SetRefcount(i.SnapshotL1(0), 0));
        yield return new DamageCase("refcount of the snapshot table is 0", "v2-snapshots", i => i.SetRefcount(i.SnapshotsOffset, 0));
        yield return new DamageCase("shared data is COPIED", "snapshots", i => i.SetL2(0, i.L2(0) | Copied));
    }

    private static IEnumerable<DamageCase> Bitmaps()
    {
        const string Refused = "QEMU does not open an image whose bitmap directory it cannot read, and so gives no verdict";
        yield return new DamageCase("bitmaps not in autoclear", "bitmaps", i => i.SetU64(88, 0));
        yield return new DamageCase("bitmap table entry has reserved bits", "bitmaps", i => i.SetU64(i.BitmapTable, 2)) { QemuDiffers = Refused };
        yield return new DamageCase("bitmap table entry misaligned", "bitmaps", i => i.SetU64(i.BitmapTable, 0x600)) { QemuDiffers = Refused };
        yield return new DamageCase("bitmap table entry outside the file", "bitmaps", i => i.SetU64(i.BitmapTable, (ulong)i.End + 0x100000));
        yield return new DamageCase("bitmap table misaligned", "bitmaps", i => i.SetU64(i.BitmapDirectory, (ulong)i.BitmapTable + 0x200)) { QemuDiffers = Refused };
        yield return new DamageCase("bitmap table outside the file", "bitmaps", i => i.SetU64(i.BitmapDirectory, (ulong)i.End + 0x100000));
        yield return new DamageCase("bitmap type unknown", "bitmaps", i => i.SetU16(i.BitmapDirectory + 16, 0x0210)) { QemuDiffers = Refused };
        yield return new DamageCase("bitmap directory outside the file", "bitmaps", i => i.SetU64(i.BitmapExtension + 16, (ulong)i.End + 0x100000)) { QemuDiffers = Refused };
        yield return new DamageCase("bitmap directory misaligned", "bitmaps", i => i.SetU64(i.BitmapExtension + 16, (ulong)i.BitmapDirectory + 0x200)) { QemuDiffers = Refused };
        yield return new DamageCase("bitmap directory has another length", "bitmaps", i => i.SetU64(i.BitmapExtension + 8, i.U64(i.BitmapExtension + 8) + 8)) { QemuDiffers = Refused };
        yield return new DamageCase("bitmaps extension has another length", "bitmaps", i => i.SetU32(i.BitmapExtension - 4, 16)) { QemuDiffers = Refused };
        yield return new DamageCase("bitmaps extension has no bitmaps", "bitmaps", i => i.SetU32(i.BitmapExtension, 0)) { QemuDiffers = Refused };
        yield return new DamageCase("refcount of the bitmap directory is 0", "bitmaps", i => i.SetRefcount(i.BitmapDirectory, 0));
        yield return new DamageCase("refcount of a bitmap table is 3", "bitmaps", i => i.SetRefcount(i.BitmapTable, 3));
        yield return new DamageCase("bitmap data is guest data", "bitmaps", i => i.SetU64(i.BitmapTable, (ulong)i.Data(4)));
    }

    private static IEnumerable<DamageCase> Others()
    {
        foreach (string recipe in new[] { "512", "4k", "snapshots" })
        {
            yield return new DamageCase("file cut by five clusters", recipe, i => i.SetLength(i.Length - (5 * i.ClusterSize)));
        }

        // The last cluster of a sound image may be incomplete, so this is none of the check's business.
        yield return new DamageCase("file cut inside a cluster", "4k", i => i.SetLength(i.Length - 1000)) { Dropped = [540] };
        yield return new DamageCase("file cut to a half", "64k", i => i.SetLength(i.Length / 2));
        yield return new DamageCase("leaked clusters at the end", "4k", i =>
        {
            long end = i.End;
            i.SetLength(end + (3 * i.ClusterSize));
            i.SetRefcount(end, 1);
            i.SetRefcount(end + (2 * i.ClusterSize), 1);
        });
        yield return new DamageCase("unused clusters at the end", "4k", i => i.SetLength(i.End + (3 * i.ClusterSize)));
        yield return new DamageCase("refcounts behind the end of the file", "4k", i => i.SetRefcount(i.End + (9 * i.ClusterSize), 1));
        yield return new DamageCase("dirty bit", "4k", i => i.SetU64(72, 1));
        yield return new DamageCase("dirty bit and a leak", "4k", i =>
        {
            i.SetU64(72, 1);
            i.SetL2(3, 0);
        })
        { Dropped = [3] };
        yield return new DamageCase("corrupt bit", "4k", i => i.SetU64(72, 2));
        yield return new DamageCase("corrupt bit and a wrong refcount", "4k", i =>
        {
            i.SetU64(72, 2);
            i.SetRefcount(i.Data(1), 0);
        });
        yield return new DamageCase("unknown incompatible bit", "4k", i => i.SetU64(72, 1UL << 40));
        yield return new DamageCase("unknown autoclear bit", "4k", i => i.SetU64(88, 1UL << 40));
        yield return new DamageCase("data file entry not COPIED", "data-file", i => i.SetL2(1, i.L2(1) & ~Copied));
        yield return new DamageCase("data file entry leads elsewhere", "data-file", i => i.SetL2(1, i.L2(2))) { QemuDiffers = "QEMU notices that only when the guest reads" };
        yield return new DamageCase("data file entry misaligned", "data-file", i => i.SetL2(1, i.L2(1) + 0x200));
        yield return new DamageCase("compressed entry with a data file", "data-file", i => i.SetL2(1, Compressed | 0x5000));
        yield return new DamageCase("many damages at once", "everything", i =>
        {
            i.SetRefcount(i.Data(0), 0);
            i.SetL2(3, 0);
            i.SetL2(4, i.L2(5));
            i.SetL2(6, Far | Copied);
            i.SetL2(7, i.L2(7) ^ Copied);
            i.SetRefcount(i.L2Table(1), 5);
        })
        { Dropped = [3, 4] };
        yield return new DamageCase("header has an L1 table that is too short", "4k", i => i.SetU32(36, 1));
    }
}
