using System.Runtime.InteropServices;

namespace BlockMount.Exports.Fuse.Abi;

/// <summary>FUSE_OPEN request; <see cref="flags"/> are those of open(2).</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct fuse_open_in
{
    public uint flags;
    public uint open_flags;
}

/// <summary>
/// Reply to FUSE_OPEN; <see cref="open_flags"/> are FOPEN_ bits. <see cref="padding"/> is called backing_id since 7.40, and goes with FOPEN_PASSTHROUGH.
/// </summary>
[StructLayout(LayoutKind.Sequential)]
internal struct fuse_open_out
{
    public ulong fh;
    public uint open_flags;
    public uint padding;
}

/// <summary>FUSE_READ request.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct fuse_read_in
{
    public ulong fh;
    public ulong offset;
    public uint size;
    public uint read_flags;
    public ulong lock_owner;
    public uint flags;
    public uint padding;
}

/// <summary>FUSE_WRITE request; <see cref="size"/> bytes of payload follow.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct fuse_write_in
{
    public ulong fh;
    public ulong offset;
    public uint size;
    public uint write_flags;
    public ulong lock_owner;
    public uint flags;
    public uint padding;
}

/// <summary>Reply to FUSE_WRITE: bytes written.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct fuse_write_out
{
    public uint size;
    public uint padding;
}

/// <summary>FUSE_LSEEK request; <see cref="whence"/> is SEEK_DATA or SEEK_HOLE.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct fuse_lseek_in
{
    public ulong fh;
    public ulong offset;
    public uint whence;
    public uint padding;
}

/// <summary>Reply to FUSE_LSEEK.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct fuse_lseek_out
{
    public ulong offset;
}
