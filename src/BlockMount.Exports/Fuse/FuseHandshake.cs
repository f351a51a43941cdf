using BlockMount.Base;
using BlockMount.Exports.Fuse.Abi;
using static BlockMount.Exports.Fuse.Abi.FuseFlags;

namespace BlockMount.Exports.Fuse;

/// <summary>FUSE_INIT: agrees with the kernel on a protocol version, limits and features.</summary>
/// <param name="Minor">Minor version in use: the smaller of both sides.</param>
/// <param name="Flags">Features in use, flags2 in the upper half.</param>
internal readonly record struct FuseHandshake(uint Minor, ulong Flags)
{
    /// <summary>7.12 (Linux 2.6.31) is the first version whose structures have the sizes that we use.</summary>
    internal const uint MinorMin = 12;

    // Requests that the kernel keeps outstanding without a waiting thread: asynchronous direct I/O. Two jobs at depth 32 fit.
    private const ushort BackgroundMax = 64;
    private const ushort CongestionThreshold = 48;

    private const ulong Wanted =
        FUSE_ASYNC_READ | FUSE_BIG_WRITES | FUSE_ASYNC_DIO | FUSE_MAX_PAGES | FUSE_INIT_EXT | FUSE_DIRECT_IO_ALLOW_MMAP;

    /// <summary>Answers frames from <paramref name="channel"/> until the kernel has accepted a version.</summary>
    /// <param name="more">Features that are agreed on if the kernel offers them, besides those that are always wanted.</param>
    /// <exception cref="BlockMountException">The kernel is too old or hung up; it has been told so.</exception>
    internal static FuseHandshake Run(FuseChannel channel, FuseRequest request, ulong more = 0)
    {
        while (true)
        {
            int length = channel.Receive(request);
            if (length == FuseChannel.Interrupted)
            {
                continue;
            }

            if (length == FuseChannel.Unmounted)
            {
                throw new BlockMountException("The file system was unmounted before the kernel had finished FUSE_INIT");
            }

            if (!request.TryParse(length))
            {
                continue;
            }

            if (request.Opcode != FuseOpcode.FUSE_INIT)
            {
                channel.Send(request, request.ReplyStatus(Errno.EIO));
                continue;
            }

            fuse_init_in offer = request.GetArgumentPrefix<fuse_init_in>();
            if (offer.major > FUSE_KERNEL_VERSION)
            {
                // The kernel reads the major version only and offers again.
                channel.Send(request, request.ReplyWith(new fuse_init_out { major = FUSE_KERNEL_VERSION }));
                continue;
            }

            return Accept(channel, request, offer, Wanted | more);
        }
    }

    private static FuseHandshake Accept(FuseChannel channel, FuseRequest request, in fuse_init_in offer, ulong wanted)
    {
        if (offer.major < FUSE_KERNEL_VERSION || offer.minor < MinorMin)
        {
            const Errno EPROTO = (Errno)71;
            channel.Send(request, request.ReplyStatus(EPROTO));
            throw new BlockMountException(
                $"The kernel speaks FUSE {offer.major}.{offer.minor}, at least {FUSE_KERNEL_VERSION}.{MinorMin} is needed",
                "use Linux 5.4 or later");
        }

        ulong offered = offer.flags;
        if ((offer.flags & FUSE_INIT_EXT) != 0)
        {
            offered |= (ulong)offer.flags2 << 32;
        }

        FuseHandshake agreed = new(Math.Min(offer.minor, FUSE_KERNEL_MINOR_VERSION), offered & wanted);
        fuse_init_out answer = new()
        {
            major = FUSE_KERNEL_VERSION,
            minor = FUSE_KERNEL_MINOR_VERSION,
            max_readahead = offer.max_readahead,
            flags = (uint)agreed.Flags,
            flags2 = (uint)(agreed.Flags >> 32),
            max_background = BackgroundMax,
            congestion_threshold = CongestionThreshold,
            max_write = FuseRequest.PayloadMax,
            time_gran = 1,
            max_pages = FuseRequest.PayloadMax / 4096,
        };
        if ((agreed.Flags & FUSE_PASSTHROUGH) != 0)
        {
            // max_stack_depth since 7.40: files on file systems that are stacked on nothing.
            answer.unused[0] = 1;
        }

        int? length = offer.minor < 23 ? FUSE_COMPAT_22_INIT_OUT_SIZE : null;
        channel.Send(request, request.ReplyWith(answer, length));
        return agreed;
    }
}
