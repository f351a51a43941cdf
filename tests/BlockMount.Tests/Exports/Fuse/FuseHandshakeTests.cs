using BlockMount.Base;
using BlockMount.Exports.Fuse;
using BlockMount.Exports.Fuse.Abi;
using Xunit;

namespace BlockMount.Tests.Exports.Fuse;

/// <summary>FUSE_INIT against kernels of several ages.</summary>
public sealed class FuseHandshakeTests
{
    private const uint AllFlags = 0x7fffffff;

    [Fact]
    public void Init_RecentKernel_AgreesOnOneMebibyteAndMappings()
    {
        (FuseHandshake agreed, byte[] reply) = Run(new fuse_init_in { major = 7, minor = 45, flags = AllFlags, flags2 = 0xffff });
        fuse_init_out answer = FuseFrames.Body<fuse_init_out>(reply);

        Assert.Equal(16 + 64, reply.Length);
        Assert.Equal((7u, FuseFlags.FUSE_KERNEL_MINOR_VERSION), (answer.major, answer.minor));
        Assert.Equal((1u << 20, (ushort)256), (answer.max_write, answer.max_pages));
        Assert.NotEqual(0u, answer.flags & FuseFlags.FUSE_ASYNC_DIO);
        Assert.Equal((uint)(FuseFlags.FUSE_DIRECT_IO_ALLOW_MMAP >> 32), answer.flags2);
        Assert.Equal(FuseFlags.FUSE_KERNEL_MINOR_VERSION, agreed.Minor);
    }

    [Fact]
    public void Init_WithoutExtension_IgnoresSecondFlags()
    {
        (FuseHandshake agreed, byte[] reply) = Run(new fuse_init_in { major = 7, minor = 31, flags = 0, flags2 = 0xffff });

        Assert.Equal(0u, FuseFrames.Body<fuse_init_out>(reply).flags2);
        Assert.Equal((31u, 0ul), (agreed.Minor, agreed.Flags));
    }

    [Fact]
    public void Init_KernelBefore723_GetsShortReply()
    {
        (_, byte[] reply) = Run(new fuse_init_in { major = 7, minor = 12, flags = AllFlags });
        Assert.Equal(16 + FuseFlags.FUSE_COMPAT_22_INIT_OUT_SIZE, reply.Length);
    }

    [Theory]
    [InlineData(7, 11)]
    [InlineData(6, 40)]
    public void Init_KernelTooOld_IsRefusedOnBothSides(uint major, uint minor)
    {
        using FakeFuseChannel channel = new();
        using FuseRequest request = new();
        channel.Request(FuseFrames.Build(FuseOpcode.FUSE_INIT, new fuse_init_in { major = major, minor = minor }));

        BlockMountException failure = Assert.Throws<BlockMountException>(() => FuseHandshake.Run(channel, request));
        Assert.NotNull(failure.Hint);
        Assert.Equal(-71, FuseFrames.Header(channel.TakeReply()).error);
    }

    [Fact]
    public void Init_KernelWithLaterMajor_OffersAgain()
    {
        using FakeFuseChannel channel = new();
        using FuseRequest request = new();
        channel.Request(FuseFrames.Build(FuseOpcode.FUSE_INIT, new fuse_init_in { major = 8, minor = 1 }));
        channel.Request(FuseFrames.Build(FuseOpcode.FUSE_INIT, new fuse_init_in { major = 7, minor = 45 }));

        FuseHandshake.Run(channel, request);
        Assert.Equal(7u, FuseFrames.Body<fuse_init_out>(channel.TakeReply()).major);
        Assert.Equal(1u << 20, FuseFrames.Body<fuse_init_out>(channel.TakeReply()).max_write);
    }

    [Fact]
    public void Init_KernelHangsUp_Throws()
    {
        using FakeFuseChannel channel = new();
        using FuseRequest request = new();
        channel.Request(FuseFrames.Build(FuseOpcode.FUSE_GETATTR));
        channel.Request([1, 2, 3]);
        channel.Unmount();

        Assert.Throws<BlockMountException>(() => FuseHandshake.Run(channel, request));
        Assert.Equal(-(int)Errno.EIO, FuseFrames.Header(channel.TakeReply()).error);
    }

    private static (FuseHandshake Agreed, byte[] Reply) Run(fuse_init_in offer)
    {
        using FakeFuseChannel channel = new();
        using FuseRequest request = new();
        channel.Request(FuseFrames.Build(FuseOpcode.FUSE_INIT, offer));
        FuseHandshake agreed = FuseHandshake.Run(channel, request);
        return (agreed, channel.TakeReply());
    }
}
