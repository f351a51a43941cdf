using BlockMount.Base;
using BlockMount.Base.Interop;
using BlockMount.Exports.Fuse.Abi;
using Xunit;

namespace BlockMount.Tests.Exports.Fuse;

/// <summary>fallocate and seeking (FEATURES X27, X28).</summary>
public sealed class FuseSpaceOperationsTests
{
    private const int DiskSize = FuseFixture.DiskSize;
    private const uint Punch = LinuxConstants.FALLOC_FL_PUNCH_HOLE;
    private const uint Keep = LinuxConstants.FALLOC_FL_KEEP_SIZE;
    private const uint Zero = LinuxConstants.FALLOC_FL_ZERO_RANGE;

    [Theory]
    [InlineData(Punch | Keep)]
    [InlineData(Zero | Keep)]
    [InlineData(Zero)]
    public void Allocate_Inside_ZeroesExactlyTheRange(uint mode)
    {
        using FuseFixture disk = new();
        byte[] expected = disk.Content();
        expected.AsSpan(1000, 5000).Clear();

        Assert.Equal(Errno.None, Allocate(disk, mode, 1000, 5000));
        Assert.Equal(expected, disk.Content());
    }

    [Theory]
    [InlineData(Punch | Keep)]
    [InlineData(Zero | Keep)]
    public void Allocate_AcrossTheEndKeepingSize_ZeroesThePartInside(uint mode)
    {
        using FuseFixture disk = new(growable: true);

        Assert.Equal(Errno.None, Allocate(disk, mode, DiskSize - 10, 1L << 40));
        Assert.Equal(Errno.None, Allocate(disk, mode, DiskSize + 10, 10));
        Assert.Equal(new byte[10], disk.Content()[^10..]);
        Assert.Equal(DiskSize, disk.Device.Size);
    }

    [Theory]
    [InlineData(Zero, DiskSize - 10)]
    [InlineData(Zero, DiskSize)]
    [InlineData(0, DiskSize)]
    public void Allocate_AcrossTheEnd_FollowsTheRulesOfGrowth(uint mode, long offset)
    {
        using FuseFixture fixedSize = new();
        using FuseFixture growable = new(growable: true);

        Assert.Equal(Errno.ENOSPC, Allocate(fixedSize, mode, offset, 1000));
        Assert.Equal(DiskSize, fixedSize.Device.Size);
        Assert.Equal(Errno.None, Allocate(growable, mode, offset, 1000));
        Assert.Equal(offset + 1000, growable.Device.Size);
    }

    [Theory]
    [InlineData(0, Errno.EOPNOTSUPP)]
    [InlineData(Keep, Errno.EOPNOTSUPP)]
    [InlineData(Punch, Errno.EINVAL)]
    [InlineData(8, Errno.EOPNOTSUPP)]
    [InlineData(0xffffffff, Errno.EOPNOTSUPP)]
    public void Allocate_WhatCannotBeDone_IsRefused(uint mode, Errno expected)
    {
        using FuseFixture disk = new();
        byte[] before = disk.Content();

        Assert.Equal(expected, Allocate(disk, mode, 0, 4096));
        Assert.Equal(before, disk.Content());
    }

    [Fact]
    public void Allocate_RangeOverflows_IsEfbig()
    {
        using FuseFixture disk = new();
        Assert.Equal(Errno.EFBIG, Allocate(disk, Punch | Keep, long.MaxValue, 2));
        Assert.Equal(Errno.EFBIG, Allocate(disk, Punch | Keep, -1, 2));
        Assert.Equal(Errno.EINVAL, Allocate(disk, Punch | Keep, 0, 0));
    }

    [Theory]
    [InlineData(LinuxConstants.SEEK_DATA, 0, 0)]
    [InlineData(LinuxConstants.SEEK_DATA, 100, 100)]
    [InlineData(LinuxConstants.SEEK_HOLE, 0, DiskSize)]
    public void Seek_InData_FindsDataHereAndTheHoleAtTheEnd(uint whence, ulong offset, ulong expected)
    {
        using FuseFixture disk = new();
        fuse_lseek_in argument = new() { offset = offset, whence = whence };
        Assert.Equal(expected, disk.AskFor<fuse_lseek_in, fuse_lseek_out>(FuseOpcode.FUSE_LSEEK, argument).offset);
    }

    [Theory]
    [InlineData(LinuxConstants.SEEK_DATA, (ulong)DiskSize, Errno.ENXIO)]
    [InlineData(LinuxConstants.SEEK_HOLE, (ulong)DiskSize, Errno.ENXIO)]
    [InlineData(LinuxConstants.SEEK_HOLE, ulong.MaxValue, Errno.ENXIO)]
    [InlineData(0, 0, Errno.EINVAL)]
    public void Seek_Outside_IsRefused(uint whence, ulong offset, Errno expected)
    {
        using FuseFixture disk = new();
        Assert.Equal(expected, disk.AskError(FuseOpcode.FUSE_LSEEK, new fuse_lseek_in { offset = offset, whence = whence }));
    }

    private static Errno Allocate(FuseFixture disk, uint mode, long offset, long length) =>
        disk.AskError(FuseOpcode.FUSE_FALLOCATE, new fuse_fallocate_in { mode = mode, offset = (ulong)offset, length = (ulong)length });
}
