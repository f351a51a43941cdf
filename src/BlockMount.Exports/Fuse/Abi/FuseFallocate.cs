using System.Runtime.InteropServices;

namespace BlockMount.Exports.Fuse.Abi;

/// <summary>FUSE_FALLOCATE request; <see cref="mode"/> is that of fallocate(2).</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct fuse_fallocate_in
{
    public ulong fh;
    public ulong offset;
    public ulong length;
    public uint mode;
    public uint padding;
}
