using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace BlockMount.Base.Interop.Uring;

/// <summary>Constants of linux/io_uring.h, spelled as there.</summary>
public static class IoUringConstants
{
    public const uint IORING_SETUP_CQSIZE = 1 << 3;
    public const uint IORING_SETUP_SUBMIT_ALL = 1 << 7;
    public const uint IORING_SETUP_COOP_TASKRUN = 1 << 8;
    public const uint IORING_SETUP_SQE128 = 1 << 10;
    public const uint IORING_SETUP_SINGLE_ISSUER = 1 << 12;
    public const uint IORING_SETUP_DEFER_TASKRUN = 1 << 13;

    public const uint IORING_FEAT_SINGLE_MMAP = 1 << 0;
    public const uint IORING_FEAT_NODROP = 1 << 1;

    public const uint IORING_ENTER_GETEVENTS = 1 << 0;

    public const byte IOSQE_ASYNC = 1 << 4;

    public const byte IORING_OP_FSYNC = 3;
    public const byte IORING_OP_READ = 22;
    public const byte IORING_OP_WRITE = 23;
    public const byte IORING_OP_URING_CMD = 46;

    public const uint IORING_FSYNC_DATASYNC = 1;

    internal const long IORING_OFF_SQ_RING = 0;
    internal const long IORING_OFF_SQES = 0x10000000;
}

/// <summary>struct io_uring_sqe: one request to the kernel, 64 bytes. A ring made with IORING_SETUP_SQE128 has 128 for each.</summary>
[StructLayout(LayoutKind.Explicit, Size = 64)]
public struct io_uring_sqe
{
    [FieldOffset(0)]
    public byte opcode;

    [FieldOffset(1)]
    public byte flags;

    [FieldOffset(2)]
    public ushort ioprio;

    [FieldOffset(4)]
    public int fd;

    /// <summary>Byte offset in the file, for what has one.</summary>
    [FieldOffset(8)]
    public ulong off;

    /// <summary>IORING_OP_URING_CMD: which command.</summary>
    [FieldOffset(8)]
    public uint cmd_op;

    /// <summary>Pointer to the buffer.</summary>
    [FieldOffset(16)]
    public ulong addr;

    /// <summary>Bytes, or number of vectors.</summary>
    [FieldOffset(24)]
    public uint len;

    /// <summary>rw_flags, fsync_flags, uring_cmd_flags: depends on the operation.</summary>
    [FieldOffset(28)]
    public uint op_flags;

    /// <summary>Comes back in the completion.</summary>
    [FieldOffset(32)]
    public ulong user_data;

    /// <summary>IORING_OP_URING_CMD: where the command's own data begin, 80 bytes in a ring with 128-byte entries.</summary>
    [FieldOffset(48)]
    public ulong cmd;
}

/// <summary>struct io_uring_cqe: one completion. <see cref="res"/> is what the system call would return, or a negative errno.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct io_uring_cqe
{
    public ulong user_data;
    public int res;
    public uint flags;
}

/// <summary>struct io_sqring_offsets.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct io_sqring_offsets
{
    public uint head;
    public uint tail;
    public uint ring_mask;
    public uint ring_entries;
    public uint flags;
    public uint dropped;
    public uint array;
    public uint resv1;
    public ulong user_addr;
}

/// <summary>struct io_cqring_offsets.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct io_cqring_offsets
{
    public uint head;
    public uint tail;
    public uint ring_mask;
    public uint ring_entries;
    public uint overflow;
    public uint cqes;
    public uint flags;
    public uint resv1;
    public ulong user_addr;
}

/// <summary>struct io_uring_params, 120 bytes.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct io_uring_params
{
    public uint sq_entries;
    public uint cq_entries;
    public uint flags;
    public uint sq_thread_cpu;
    public uint sq_thread_idle;
    public uint features;
    public uint wq_fd;
    public Reserved3 resv;
    public io_sqring_offsets sq_off;
    public io_cqring_offsets cq_off;

    [InlineArray(3)]
    internal struct Reserved3
    {
        private uint _element;
    }
}
