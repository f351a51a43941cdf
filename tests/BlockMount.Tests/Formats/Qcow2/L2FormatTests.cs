using BlockMount.Formats.Qcow2.Metadata;
using BlockMount.Formats.Qcow2.OnDisk;
using Xunit;

namespace BlockMount.Tests.Formats.Qcow2;

/// <summary>Extended L2 entries and entries of images with a data file, against values written out by hand from the specification.</summary>
public sealed class L2FormatTests
{
    private const ulong Copied = 1UL << 63;
    private const ulong Compressed = 1UL << 62;

    private static readonly L2Format s_extended = new(3, HasSubclusters: true, HasDataFile: false);

    [Theory]
    // Bit n: subcluster n is allocated; bit 32 + n: it reads as zeros.
    [InlineData(Copied | 0x50000, 0x0000_0000_0000_0001UL, 0, ClusterKind.Normal, 1)]
    [InlineData(Copied | 0x50000, 0x0000_0000_0000_0001UL, 1, ClusterKind.Unallocated, 31)]
    [InlineData(Copied | 0x50000, 0x0000_0006_0000_0018UL, 1, ClusterKind.ZeroAllocated, 2)]
    [InlineData(Copied | 0x50000, 0x0000_0006_0000_0018UL, 3, ClusterKind.Normal, 2)]
    [InlineData(Copied | 0x50000, 0x0000_0006_0000_0018UL, 5, ClusterKind.Unallocated, 27)]
    [InlineData(Copied | 0x50000, 0x0000_0000_ffff_ffffUL, 0, ClusterKind.Normal, 32)]
    [InlineData(Copied | 0x50000, 0x0000_0000_ffff_ffffUL, 31, ClusterKind.Normal, 1)]
    [InlineData(0, 0xffff_ffff_0000_0000UL, 7, ClusterKind.ZeroPlain, 25)]
    [InlineData(0, 0x8000_0000_0000_0000UL, 31, ClusterKind.ZeroPlain, 1)]
    [InlineData(0, 0UL, 0, ClusterKind.Unallocated, 32)]
    // The whole bitmap of a compressed cluster is ignored.
    [InlineData(Compressed | 0x50000, 0x0000_0001_0000_0001UL, 3, ClusterKind.Compressed, 29)]
    // Bit 0 of the first word says nothing here.
    [InlineData(Copied | 0x50001, 0x0000_0000_0000_0001UL, 0, ClusterKind.Normal, 1)]
    public void ExtendedEntry_KindAndRun_FollowTheBitmap(ulong first, ulong second, int subcluster, ClusterKind kind, int run)
    {
        L2Entry entry = new(first, second);
        Assert.Equal(kind, s_extended.KindAt(entry, subcluster));
        Assert.Equal(run, s_extended.RunLength(entry, subcluster, kind));
    }

    [Theory]
    // A subcluster that is data and zero spoils the whole cluster.
    [InlineData(Copied | 0x50000, 0x0000_0001_0000_0001UL)]
    // Data without a host cluster.
    [InlineData(0, 0x0000_0000_0000_0001UL)]
    public void ExtendedEntry_Contradiction_IsInvalidEverywhere(ulong first, ulong second)
    {
        for (int i = 0; i < 32; i++)
        {
            Assert.Equal(ClusterKind.Invalid, s_extended.KindAt(new L2Entry(first, second), i));
        }
    }

    [Theory]
    [InlineData(false, Copied, 0UL, ClusterKind.Normal)]
    [InlineData(false, Copied | 0x50000, 0UL, ClusterKind.Normal)]
    [InlineData(false, 0, 0UL, ClusterKind.Unallocated)]
    [InlineData(false, 1, 0UL, ClusterKind.ZeroPlain)]
    [InlineData(true, Copied, 1UL, ClusterKind.Normal)]
    [InlineData(true, Copied, 0UL, ClusterKind.Unallocated)]
    [InlineData(true, 0, 1UL, ClusterKind.Invalid)]
    public void EntryWithDataFile_OffsetZeroAndCopied_IsAllocated(bool subclusters, ulong first, ulong second, ClusterKind kind) =>
        Assert.Equal(kind, new L2Format(3, subclusters, HasDataFile: true).KindAt(new L2Entry(first, second), 0));

    [Fact]
    public void Masks_OfEntriesMade_AreThoseAskedFor()
    {
        L2Entry entry = s_extended.Own(0x70000, 0x0f, 0xf0);
        Assert.Equal(new L2Entry(Copied | 0x70000, 0x0000_00f0_0000_000f), entry);
        Assert.Equal(0x0fu, s_extended.DataMask(entry));
        Assert.Equal(0xf0u, s_extended.ZeroMask(entry));
        Assert.Equal(new L2Entry(0, 0xffff_ffff_0000_0000), s_extended.Zero);
        L2Format standard = new(3, HasSubclusters: false, HasDataFile: false);
        Assert.Equal(new L2Entry(Copied | 0x70000), standard.Own(0x70000, 1, 0));
        Assert.Equal(new L2Entry(Copied | 0x70001), standard.Own(0x70000, 0, 1));
        Assert.Equal(new L2Entry(1), standard.Zero);
    }

    [Theory]
    [InlineData(0, 32, uint.MaxValue)]
    [InlineData(31, 1, 0x8000_0000)]
    [InlineData(4, 3, 0x70)]
    public void MaskOf_CountsFromTheFirst(int first, int count, uint mask) => Assert.Equal(mask, L2Format.MaskOf(first, count));

    // The two words of every entry read belong together, while another thread changes them all the time.
    [Fact]
    public async Task WideEntry_ReadWhileItChanges_IsNeverTorn()
    {
        MetadataSlice slice = new(0, 4096);
        slice.WriteWideEntry(3, 0, ulong.MaxValue);
        using CancellationTokenSource stop = new();
        Task<long> reader = Task.Run(() =>
        {
            long torn = 0;
            for (long i = 0; i < 3_000_000; i++)
            {
                (ulong first, ulong second) = slice.ReadWideEntry(3);
                torn += first == ~second ? 0 : 1;
            }

            return torn;
        });
        Task writer = Task.Run(() =>
        {
            for (ulong value = 1; !stop.IsCancellationRequested; value++)
            {
                slice.WriteWideEntry(3, value, ~value);
            }
        });
        long found = await reader;
        await stop.CancelAsync();
        await writer;
        Assert.Equal(0, found);
    }
}
