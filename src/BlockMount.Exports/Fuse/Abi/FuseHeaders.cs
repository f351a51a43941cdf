using System.Runtime.InteropServices;

namespace BlockMount.Exports.Fuse.Abi;

/// <summary>Begins every request. <see cref="len"/> counts the whole frame in bytes.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct fuse_in_header
{
    public uint len;
    public uint opcode;
    public ulong unique;
    public ulong nodeid;
    public uint uid;
    public uint gid;
    public uint pid;
    public ushort total_extlen;
    public ushort padding;
}

/// <summary>Begins every reply. <see cref="len"/> counts the whole frame; <see cref="error"/> is 0 or a negative errno.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct fuse_out_header
{
    public uint len;
    public int error;
    public ulong unique;
}
