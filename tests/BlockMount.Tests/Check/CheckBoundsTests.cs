using BlockMount.Formats.Qcow2.Check;
using BlockMount.Formats.Qcow2.Repair;
using BlockMount.Storage;
using BlockMount.TestSupport;
using BlockMount.TestSupport.Damage;
using Xunit;

namespace BlockMount.Tests.Check;

/// <summary>
/// What a check leaves out so that a hostile image cannot make it work without end: it says so, a repair then changes nothing, and everything else is
/// counted as if nothing had been left out.
/// </summary>
public sealed class CheckBoundsTests
{
    private const int L1EntriesMax = 4 << 20;
    private const long L1BytesMax = L1EntriesMax * 8L;
    private const long Hole = 1 << 20;

    // No refcount is stored for the header, the refcount table, the active L1 table and the snapshot table.
    private const int OtherCorruptions = 4;

    [Fact]
    public void Overlaps_UpToTheBudget_AreRead()
    {
        (long, long)[] tables = [(0, L1BytesMax), (L1BytesMax / 2, L1BytesMax), (L1BytesMax, L1BytesMax)];
        // Each has half of itself in common with the one before.
        Assert.Empty(TableOverlaps.FindUnreadable(tables, heldBytes: 1L << 40));
        Assert.Equal([(L1BytesMax * 3 / 2, 8)], TableOverlaps.FindUnreadable([.. tables, (L1BytesMax * 3 / 2, 8)], heldBytes: 1L << 40));
    }

    [Fact]
    public void TablesAtOnePlace_CostNothing()
    {
        (long, long)[] tables = [.. Enumerable.Repeat((Hole, L1BytesMax), 1000)];
        Assert.Empty(TableOverlaps.FindUnreadable(tables, heldBytes: 0));
    }

    [Fact]
    public void TablesSideBySide_AreReadAsFarAsTheFileCanHoldThem()
    {
        (long Offset, long Bytes)[] tables = [.. Enumerable.Range(0, 64).Select(i => (i * L1BytesMax, L1BytesMax))];
        Assert.Equal(64 - (int)(TableOverlaps.HoleBytesMax / L1BytesMax), TableOverlaps.FindUnreadable(tables, heldBytes: 0).Count);
        Assert.Empty(TableOverlaps.FindUnreadable(tables, heldBytes: 32 * L1BytesMax));
    }

    [Fact]
    public void TheActiveTable_IsReadInAnyCase()
    {
        (long, long)[] tables = [.. Enumerable.Range(0, 64).Select(i => (i * 512L, L1BytesMax))];
        IReadOnlySet<(long, long)> unreadable = TableOverlaps.FindUnreadable(tables, heldBytes: 1L << 40, exempt: tables[^1]);
        Assert.Equal(61, unreadable.Count);
        Assert.DoesNotContain(tables[^1], unreadable);
        Assert.Contains(tables[^2], unreadable);
    }

    [Fact]
    public async Task OverlappingL1Tables_BeyondTheBudget_AreReportedAndNotRead()
    {
        const int Snapshots = 10;
        SparseFile file = Overlapping(Snapshots);
        CheckReport report = await ConsistencyCheck.RunAsync(file);
        // The first two have nearly everything in common, which leaves nothing for the others.
        Assert.Equal((Snapshots - 2, Snapshots - 2, 1), (report.UnreadTables, report.CheckErrors, report.ExitCode));
        Assert.Equal(Snapshots - 2, report.Findings.Count(finding => finding.Kind == CheckFindingKind.Unchecked));
        Assert.Contains(report.Damage.Ranges, range => range.Snapshot is not null && range.Offset == 0 && range.Length == 512 * 64);
        // Table 0 begins one cluster before table 1, and nothing else lies there.
        Assert.Equal((L1BytesMax / 512) + 1, report.Corruptions - OtherCorruptions);
        Assert.Equal(0, file.BytesReadInHole);
        Assert.InRange(file.Questions, 1, 10);
    }

    [Theory]
    [InlineData(RepairMode.All)]
    [InlineData(RepairMode.Leaks)]
    public async Task Repair_OfImageWithUnreadTables_IsRefusedAndChangesNothing(RepairMode mode)
    {
        TableImage image = OverlappingImage(10);
        MemoryFile content = image.ToFile();
        RepairResult result = await ImageRepair.RunAsync(new SparseFile(content, FileLength, FileLength), mode);
        Assert.Contains("8 tables could not be followed", result.Refused, StringComparison.Ordinal);
        Assert.Same(result.Before, result.After);
        Assert.True(content.Content.SequenceEqual(image.Bytes));
    }

    // What looks leaked belongs to what the damaged field meant; -r all finds it again.
    [RequiresTheory(Needs.None, "qemu-img", "qemu-io")]
    [InlineData("4k: L1 entry misaligned")]
    [InlineData("4k: L1 entry outside the file")]
    [InlineData("4k: L2 entry outside the file")]
    [InlineData("4k: L1 table outside the file")]
    [InlineData("snapshots: snapshot's L1 table misaligned")]
    [InlineData("snapshots: snapshot's L1 table outside the file")]
    [InlineData("snapshots: snapshot's L1 entry misaligned")]
    [InlineData("bitmaps: bitmap table outside the file")]
    [InlineData("bitmaps: bitmap directory misaligned")]
    public async Task RepairLeaks_WhereReferencesLeadNowhere_IsRefusedAndChangesNothing(string name)
    {
        DamageCase damage = DamageCatalog.Get(name);
        ImageSurgeon surgeon = new((await SoundImage.GetAsync(damage.Recipe)).Bytes);
        damage.Harm(surgeon);
        MemoryFile file = new("image", readOnly: false, surgeon.Bytes.Span);
        RepairResult result = await ImageRepair.RunAsync(file, RepairMode.Leaks);
        Assert.True(result.Before.Leaks > 0);
        Assert.Contains("-r all", result.Refused, StringComparison.Ordinal);
        Assert.True(file.Content.SequenceEqual(surgeon.Bytes.Span));
    }

    [Fact]
    public async Task TablesNamedAgainAndAgain_CountAsIfEachWasWalked()
    {
        Random random = new(5);
        for (int round = 0; round < 20; round++)
        {
            TableImage image = Tangled(random);
            long[] expected = image.CountNaively();
            await using MemoryFile file = image.ToFile();
            CheckReport report = await ConsistencyCheck.RunAsync(file);
            // All stored refcounts are 0: each cluster that has references is one corruption, and each COPIED flag.
            Assert.Equal((expected.Count(count => count > 0), image.CountCopiedFlags()), (report.Corruptions - report.WrongCopiedFlags, report.WrongCopiedFlags));
            await SameCountsAsync(file, expected);
        }
    }

    [Theory]
    [InlineData(1 << 10)]
    [InlineData(5000)]
    [InlineData(1 << 15)]
    public async Task WindowsWithNothingInThem_AreSkipped(int windowClusters)
    {
        // Two clusters with refcounts and without references, and a reference in between.
        const int Clusters = 64 * 256;
        TableImage image = new(Clusters * 512, 1);
        image.Set(512, 0x2000);
        image.Set(512 + (60 * 8), 0x2200);
        image.Set(0x2000 + (100 * 2), 1UL << 48);
        image.Set(0x2200 + (200 * 2), 1UL << 48);
        image.Set(TableImage.L1, 0x2400 | TableImage.Copied);
        image.Set(0x2400, (50 * 256 * 512) | TableImage.Copied);
        await using MemoryFile file = image.ToFile();
        CheckReport whole = await ConsistencyCheck.RunAsync(file);
        CheckReport parts = await ConsistencyCheck.RunAsync(file, new CheckOptions { WindowClusters = windowClusters });
        Assert.Equal(2, whole.Leaks);
        Assert.Equal((whole.Corruptions, whole.Leaks, whole.CheckErrors), (parts.Corruptions, parts.Leaks, parts.CheckErrors));
        Assert.Equal(whole.ImageEndOffset, parts.ImageEndOffset);
        Assert.Equal(((60 * 256) + 201) * 512L, whole.ImageEndOffset);
    }

    [Fact]
    public async Task FileAsLongAsCanBe_CostsWhatRefersToIt()
    {
        TableImage image = new(1 << 16, 1);
        image.Set(TableImage.L1, 0x2400 | TableImage.Copied);
        for (int i = 0; i < 64; i++)
        {
            image.Set(0x2400 + (i * 8), (((ulong)i + 1) << 50) | TableImage.Copied);
        }

        CheckReport report = await ConsistencyCheck.RunAsync(new SparseFile(image.ToFile(), long.MaxValue - 511, 1 << 16));
        // Offsets have 56 bits: 63 of the clusters lie in the file.
        Assert.Equal((63L << 50) + 512, report.ImageEndOffset);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4)]
    [InlineData(5)]
    [InlineData(6)]
    public async Task LeaksThatNobodyLists_AreCountedAtEveryWidth(int refcountOrder)
    {
        const int Clusters = 3 * 4096;
        TableImage image = new(Clusters * 512, 1);
        byte[] bytes = image.Bytes.ToArray();
        bytes[7] = 3;
        bytes[99] = (byte)refcountOrder;
        bytes[103] = 104;
        ImageSurgeon surgeon = new(bytes);
        surgeon.SetU32(56, 4);
        int blocks = Clusters / surgeon.BlockEntries;
        Random random = new(refcountOrder);
        long leaks = 0;
        long last = 0;
        for (int block = 0; block < blocks; block++)
        {
            surgeon.SetRefcountTable(block, (ulong)(0x8000 + (block * 512)));
        }

        for (long cluster = 4096; cluster < Clusters; cluster++)
        {
            if (random.Next(3) == 0)
            {
                surgeon.SetRefcount(cluster * 512, (ulong)random.Next(1, 1 << Math.Min(1 << refcountOrder, 30)));
                leaks++;
                last = cluster;
            }
        }

        await using MemoryFile file = new("image", readOnly: true, surgeon.Bytes.Span);
        CheckReport report = await ConsistencyCheck.RunAsync(file);
        Assert.True(leaks > CheckReport.FindingsMax);
        Assert.Equal((leaks, (last + 1) * 512), (report.Leaks, report.ImageEndOffset));
    }

    private static long FileLength => Hole + (20 * L1BytesMax);

    private static TableImage OverlappingImage(int snapshots)
    {
        TableImage image = new((int)Hole, 1);
        for (int i = 0; i < snapshots; i++)
        {
            image.AddSnapshot(Hole + (i * 512L), L1EntriesMax);
        }

        return image;
    }

    private static SparseFile Overlapping(int snapshots) => new(OverlappingImage(snapshots).ToFile(), FileLength, FileLength);

    // Tables of three sizes in a few places, shared by many entries and snapshots, and L1 tables that several snapshots name.
    private static TableImage Tangled(Random random)
    {
        const int Entries = 200;
        const uint Tables = 0x20000;
        TableImage image = new(1 << 20, Entries);
        for (int table = 0; table < 8; table++)
        {
            for (int i = 0; i < 64; i++)
            {
                image.Set(Tables + (table * 512) + (i * 8), random.Next(3) == 0 ? 0x80000 + ((ulong)random.Next(200) * 512) + (random.Next(2) == 0 ? TableImage.Copied : 0) : 0);
            }
        }

        long[] l1Tables = [TableImage.L1, 0x8000, 0x9000, 0xa000];
        foreach (long l1 in l1Tables)
        {
            for (int i = 0; i < Entries; i++)
            {
                image.Set(l1 + (i * 8), random.Next(4) == 0 ? 0 : Tables + ((ulong)random.Next(8) * 512) + (random.Next(2) == 0 ? TableImage.Copied : 0));
            }
        }

        for (int i = 0; i < 30; i++)
        {
            image.AddSnapshot(l1Tables[random.Next(1, l1Tables.Length)], random.Next(2) == 0 ? Entries : random.Next(1, Entries));
        }

        return image;
    }

    private static async Task SameCountsAsync(StorageFile file, long[] expected)
    {
        ImageState state = await ImageState.CountAsync(file, new CheckMemory());
        for (int cluster = 0; cluster < expected.Length; cluster++)
        {
            Assert.True(expected[cluster] == (long)state.References.Count(cluster), $"cluster {cluster}: {expected[cluster]} expected, {state.References.Count(cluster)} counted");
        }
    }
}
