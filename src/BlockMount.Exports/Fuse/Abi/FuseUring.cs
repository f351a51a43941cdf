using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace BlockMount.Exports.Fuse.Abi;

/// <summary>enum fuse_uring_cmd: the cmd_op of an IORING_OP_URING_CMD on /dev/fuse.</summary>
internal static class FuseUringCommand
{
    public const uint FUSE_IO_URING_CMD_REGISTER = 1;
    public const uint FUSE_IO_URING_CMD_COMMIT_AND_FETCH = 2;
}

/// <summary>Which reply an entry carries, and how many bytes of payload, in both directions.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct fuse_uring_ent_in_out
{
    public ulong flags;
    public ulong commit_id;
    public uint payload_sz;
    public uint padding;
    public ulong reserved;
}

/// <summary>Headers of a request or reply in an entry of a ring: in_out and op_in are areas of 128 bytes each.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct fuse_uring_req_header
{
    public const int OpInOffset = 128;
    public const int OpInLength = 128;

    public Area128 in_out;
    public Area128 op_in;
    public fuse_uring_ent_in_out ring_ent_in_out;

    [InlineArray(128)]
    internal struct Area128
    {
        private byte _element;
    }
}

/// <summary>The command area of a submission entry.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct fuse_uring_cmd_req
{
    public ulong flags;
    public ulong commit_id;
    public ushort qid;
    public Padding6 padding;

    [InlineArray(6)]
    internal struct Padding6
    {
        private byte _element;
    }
}
