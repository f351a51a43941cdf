using BlockMount.Base;
using BlockMount.Block.Devices;
using BlockMount.Exports.Fuse.Abi;
using Xunit;

namespace BlockMount.Tests.Exports.Fuse;

/// <summary>What the file does on each operation (FEATURES X22-X29).</summary>
public sealed class FuseFileOperationsTests
{
    private const int DiskSize = FuseFixture.DiskSize;

    [Theory]
    [InlineData(0, 4096, 4096)]
    [InlineData(1000, 1, 1)]
    [InlineData(DiskSize - 100, 4096, 100)]
    [InlineData(DiskSize, 4096, 0)]
    [InlineData(DiskSize * 5L, 4096, 0)]
    public void Read_AnyRange_IsCutAtTheEnd(long offset, uint size, int expected)
    {
        using FuseFixture disk = new();
        byte[] reply = disk.Ask(FuseFrames.Build(FuseOpcode.FUSE_READ, new fuse_read_in { offset = (ulong)offset, size = size }));

        fuse_out_header header = FuseFrames.Header(reply);
        Assert.Equal((0, FuseFrames.Unique, (uint)reply.Length), (header.error, header.unique, header.len));
        Assert.Equal(expected, reply.Length - 16);
        Assert.True(expected == 0 || disk.Content().AsSpan((int)offset, expected).SequenceEqual(reply.AsSpan(16)));
    }

    [Theory]
    [InlineData(0, (1 << 20) + 1)]
    [InlineData(-1, 4096)]
    public void Read_ImpossibleRange_IsEinval(long offset, uint size)
    {
        using FuseFixture disk = new();
        Assert.Equal(Errno.EINVAL, disk.AskError(FuseOpcode.FUSE_READ, new fuse_read_in { offset = (ulong)offset, size = size }));
    }

    [Fact]
    public void Write_Inside_ChangesTheDisk()
    {
        using FuseFixture disk = new();
        byte[] data = FuseFixture.Pattern(5000, seed: 1);

        Assert.Equal(5000u, Write(disk, 777, data));
        Assert.Equal(data, disk.Content()[777..5777]);
    }

    [Fact]
    public void Write_AcrossTheEnd_WritesThePartThatFits()
    {
        using FuseFixture disk = new();
        byte[] data = FuseFixture.Pattern(5000, seed: 1);

        Assert.Equal(100u, Write(disk, DiskSize - 100, data));
        Assert.Equal(DiskSize, disk.Device.Size);
        Assert.Equal(data[..100], disk.Content()[^100..]);
    }

    [Fact]
    public void Write_BehindTheEnd_IsEnospc()
    {
        using FuseFixture disk = new();
        Assert.Equal(Errno.ENOSPC, disk.AskError(FuseOpcode.FUSE_WRITE, new fuse_write_in { offset = DiskSize, size = 3 }, [1, 2, 3]));
    }

    [Fact]
    public void Write_BehindTheEndOfGrowable_GrowsFirst()
    {
        using FuseFixture disk = new(growable: true);

        Assert.Equal(3u, Write(disk, DiskSize + 100, [1, 2, 3]));
        Assert.Equal(DiskSize + 103, disk.Device.Size);
        Assert.Equal([0, 1, 2, 3], disk.Content()[^4..]);
    }

    [Fact]
    public void Write_SizeLies_IsEinval()
    {
        using FuseFixture disk = new();
        byte[] before = disk.Content();

        Assert.Equal(Errno.EINVAL, disk.AskError(FuseOpcode.FUSE_WRITE, new fuse_write_in { size = 4 }, [1, 2, 3]));
        Assert.Equal(Errno.EINVAL, disk.AskError(FuseOpcode.FUSE_WRITE, new fuse_write_in { size = uint.MaxValue }, [1, 2, 3]));
        Assert.Equal(before, disk.Content());
    }

    [Fact]
    public void Write_OffsetOverflows_IsEfbig()
    {
        using FuseFixture disk = new(growable: true);
        Assert.Equal(Errno.EFBIG, disk.AskError(FuseOpcode.FUSE_WRITE, new fuse_write_in { offset = long.MaxValue, size = 3 }, [1, 2, 3]));
    }

    [Fact]
    public void ReadOnly_EveryChange_IsRefused()
    {
        using FuseFixture disk = new(writable: false);
        byte[] before = disk.Content();

        Assert.Equal(Errno.EACCES, disk.AskError(FuseOpcode.FUSE_OPEN, new fuse_open_in { flags = 2 }));
        Assert.Equal(Errno.None, disk.AskError(FuseOpcode.FUSE_OPEN, new fuse_open_in { flags = 0 }));
        Assert.Equal(Errno.EACCES, disk.AskError(FuseOpcode.FUSE_WRITE, new fuse_write_in { size = 3 }, [1, 2, 3]));
        Assert.Equal(Errno.EACCES, disk.AskError(FuseOpcode.FUSE_SETATTR, new fuse_setattr_in { valid = FuseFlags.FATTR_SIZE }));
        Assert.Equal(Errno.EROFS, disk.AskError(FuseOpcode.FUSE_SETATTR, new fuse_setattr_in { valid = FuseFlags.FATTR_MODE, mode = 0x8180 }));
        Assert.Equal(Errno.EACCES, disk.AskError(FuseOpcode.FUSE_FALLOCATE, new fuse_fallocate_in { length = 1, mode = 3 }));
        Assert.Equal(before, disk.Content());
    }

    [Fact]
    public void Open_Always_BypassesThePageCache()
    {
        using FuseFixture disk = new();
        fuse_open_out reply = disk.AskFor<fuse_open_in, fuse_open_out>(FuseOpcode.FUSE_OPEN, new fuse_open_in { flags = 2 });
        Assert.Equal(FuseFlags.FOPEN_DIRECT_IO | FuseFlags.FOPEN_PARALLEL_DIRECT_WRITES, reply.open_flags);
    }

    [Fact]
    public async Task GetAttributes_AfterResizeElsewhere_ShowsNewSizeUncached()
    {
        using FuseFixture disk = new();
        await disk.Device.ResizeAsync(DiskSize * 2);

        fuse_attr_out reply = FuseFrames.Body<fuse_attr_out>(disk.Ask(FuseFrames.Build(FuseOpcode.FUSE_GETATTR)));
        Assert.Equal((ulong)DiskSize * 2, reply.attr.size);
        Assert.Equal((0ul, 0u), (reply.attr_valid, reply.attr_valid_nsec));
        Assert.Equal(0x8180u, reply.attr.mode);
        Assert.Equal((ulong)DiskSize * 2 / 512, reply.attr.blocks);
    }

    [Fact]
    public void SetAttributes_Size_Resizes()
    {
        using FuseFixture disk = new();
        fuse_setattr_in change = new() { valid = FuseFlags.FATTR_SIZE, size = 1000 };

        Assert.Equal(1000ul, disk.AskFor<fuse_setattr_in, fuse_attr_out>(FuseOpcode.FUSE_SETATTR, change).attr.size);
        Assert.Equal(1000, disk.Device.Size);
    }

    [Fact]
    public void SetAttributes_Times_AreRemembered()
    {
        using FuseFixture disk = new();
        fuse_setattr_in change = new()
        {
            valid = FuseFlags.FATTR_ATIME | FuseFlags.FATTR_MTIME,
            atime = 1,
            atimensec = 999_999_999,
            mtime = unchecked((ulong)-1),
            mtimensec = 1,
        };

        disk.AskFor<fuse_setattr_in, fuse_attr_out>(FuseOpcode.FUSE_SETATTR, change);
        fuse_attr attr = FuseFrames.Body<fuse_attr_out>(disk.Ask(FuseFrames.Build(FuseOpcode.FUSE_GETATTR))).attr;
        Assert.Equal((1ul, 999_999_999u, ulong.MaxValue, 1u), (attr.atime, attr.atimensec, attr.mtime, attr.mtimensec));
    }

    [Theory]
    [InlineData(false, FuseFlags.FATTR_MODE, 0x8180u, Errno.None)]
    [InlineData(false, FuseFlags.FATTR_MODE, 0x81a4u, Errno.EPERM)]
    [InlineData(false, FuseFlags.FATTR_UID, 0u, Errno.EPERM)]
    [InlineData(false, FuseFlags.FATTR_GID, 0u, Errno.EPERM)]
    [InlineData(true, FuseFlags.FATTR_MODE, 0x81a4u, Errno.None)]
    [InlineData(true, FuseFlags.FATTR_UID | FuseFlags.FATTR_GID, 0u, Errno.None)]
    public void SetAttributes_ModeAndOwner_NeedAllowOther(bool admitsOthers, uint valid, uint mode, Errno expected)
    {
        using FuseFixture disk = new(admitsOthers: admitsOthers);
        fuse_setattr_in change = new() { valid = valid, mode = mode, uid = 5, gid = 6 };

        Assert.Equal(expected, disk.AskError(FuseOpcode.FUSE_SETATTR, change));
    }

    [Fact]
    public void Flush_OnlyAfterWrites_ReachesTheDevice()
    {
        using FuseFixture disk = new();
        disk.Ask(FuseFrames.Build(FuseOpcode.FUSE_FLUSH));
        Assert.Equal(0, disk.Device.Statistics.Flushes.Operations);

        Write(disk, 0, [1]);
        disk.Ask(FuseFrames.Build(FuseOpcode.FUSE_FLUSH));
        disk.Ask(FuseFrames.Build(FuseOpcode.FUSE_FLUSH));
        Assert.Equal(1, disk.Device.Statistics.Flushes.Operations);

        disk.Ask(FuseFrames.Build(FuseOpcode.FUSE_FSYNC));
        Assert.Equal(2, disk.Device.Statistics.Flushes.Operations);
    }

    private static uint Write(FuseFixture disk, long offset, byte[] data)
    {
        fuse_write_in argument = new() { offset = (ulong)offset, size = (uint)data.Length };
        return disk.AskFor<fuse_write_in, fuse_write_out>(FuseOpcode.FUSE_WRITE, argument, data).size;
    }
}
