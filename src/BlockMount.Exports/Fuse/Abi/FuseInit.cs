using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace BlockMount.Exports.Fuse.Abi;

/// <summary>FUSE_INIT request. Kernels before 7.36 send the first four fields only.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct fuse_init_in
{
    public uint major;
    public uint minor;
    public uint max_readahead;
    public uint flags;
    public uint flags2;
    public Unused11 unused;

    [InlineArray(11)]
    internal struct Unused11
    {
        private uint _element;
    }
}

/// <summary>FUSE_INIT reply. Kernels before 7.23 take the first 24 bytes only.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct fuse_init_out
{
    public uint major;
    public uint minor;
    public uint max_readahead;
    public uint flags;
    public ushort max_background;
    public ushort congestion_threshold;
    public uint max_write;
    public uint time_gran;
    public ushort max_pages;
    public ushort map_alignment;
    public uint flags2;
    public Unused7 unused;

    [InlineArray(7)]
    internal struct Unused7
    {
        private uint _element;
    }
}
