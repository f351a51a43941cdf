using BlockMount.Formats.Qcow2.OnDisk;
using Xunit;

namespace BlockMount.Tests.Formats.Qcow2;

/// <summary>Entries of L1 tables, L2 tables and refcount blocks, against values written out by hand from the specification.</summary>
public sealed class OnDiskEntryTests
{
    [Theory]
    [InlineData(0UL, 3, ClusterKind.Unallocated)]
    [InlineData(1UL, 3, ClusterKind.ZeroPlain)]
    [InlineData(1UL, 2, ClusterKind.Unallocated)]
    [InlineData(0x8000_0000_0005_0000UL, 3, ClusterKind.Normal)]
    [InlineData(0x8000_0000_0005_0001UL, 3, ClusterKind.ZeroAllocated)]
    [InlineData(0x8000_0000_0005_0001UL, 2, ClusterKind.Normal)]
    [InlineData(0x4000_0000_0005_0000UL, 3, ClusterKind.Compressed)]
    public void L2Entry_Kind_FollowsTheVersion(ulong raw, int version, ClusterKind kind) => Assert.Equal(kind, new L2Entry(raw).Kind(version));

    [Theory]
    // 64 KiB clusters: 54 offset bits, then 8 bits of additional sectors.
    [InlineData(16, 0x50123L, 3, 0x50123L, (4 * 512) - 0x123)]
    [InlineData(16, 0x50000L, 0, 0x50000L, 512)]
    // 512-byte clusters: 61 offset bits, 1 bit of sectors.
    [InlineData(9, 0x777L, 1, 0x777L, 1024 - 0x177)]
    // 2 MiB clusters: 49 offset bits, 13 bits of sectors.
    [InlineData(21, 0x1_0000_0001L, 4095, 0x1_0000_0001L, (4096 * 512) - 1)]
    public void L2Entry_CompressedExtent_EndsAtTheEndOfItsLastSector(int clusterBits, long offset, long sectors, long hostOffset, int length)
    {
        int offsetBits = 62 - (clusterBits - 8);
        ulong raw = (1UL << 62) | ((ulong)sectors << offsetBits) | (ulong)offset;
        Assert.Equal((hostOffset, length), new L2Entry(raw).CompressedExtent(clusterBits));
    }

    [Fact]
    public void L1Entry_OwnTable_IsPresentAndCopied()
    {
        L1Entry entry = L1Entry.ForOwnTable(0x30000);
        Assert.Equal(0x8000_0000_0003_0000UL, entry.Raw);
        Assert.True(entry.IsPresent);
        Assert.True(entry.IsCopied);
        Assert.Equal(0x30000, entry.TableOffset);
        Assert.False(default(L1Entry).IsPresent);
    }

    [Theory]
    [InlineData(0, 9, 1UL, 1, 0b0000_0010)]
    [InlineData(1, 5, 3UL, 1, 0b0000_1100)]
    [InlineData(2, 3, 9UL, 1, 0b1001_0000)]
    [InlineData(3, 1, 200UL, 1, 200)]
    public void RefcountEntry_NarrowWidths_FillBytesFromTheLowEnd(int order, int index, ulong value, int byteIndex, byte expected)
    {
        byte[] block = new byte[16];
        RefcountEntry.Write(block, index, order, value);
        Assert.Equal(expected, block[byteIndex]);
        Assert.Equal(expected, block.Sum(cell => cell));
        Assert.Equal(value, RefcountEntry.Read(block, index, order));
    }

    [Theory]
    [InlineData(4, 0x1234UL)]
    [InlineData(5, 0x1234_5678UL)]
    [InlineData(6, 0x1234_5678_9abc_def0UL)]
    public void RefcountEntry_WideWidths_AreBigEndian(int order, ulong value)
    {
        byte[] block = new byte[64];
        RefcountEntry.Write(block, 3, order, value);
        int width = 1 << (order - 3);
        Assert.Equal(0x12, block[3 * width]);
        Assert.Equal((byte)value, block[(4 * width) - 1]);
        Assert.Equal(value, RefcountEntry.Read(block, 3, order));
    }

    [Fact]
    public void RefcountEntry_NeighboursAreUntouched()
    {
        for (int order = 0; order <= 6; order++)
        {
            byte[] block = new byte[128];
            ulong max = order == 6 ? ulong.MaxValue : (1UL << (1 << order)) - 1;
            for (int i = 0; i < 8; i++)
            {
                RefcountEntry.Write(block, i, order, max);
            }

            RefcountEntry.Write(block, 4, order, 0);
            for (int i = 0; i < 8; i++)
            {
                Assert.Equal(i == 4 ? 0 : max, RefcountEntry.Read(block, i, order));
            }
        }
    }
}
