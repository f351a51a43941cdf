using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace BlockMount.Exports.Fuse.Abi;

/// <summary>What stat(2) shows. <see cref="blocks"/> counts units of 512 bytes.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct fuse_attr
{
    public ulong ino;
    public ulong size;
    public ulong blocks;
    public ulong atime;
    public ulong mtime;
    public ulong ctime;
    public uint atimensec;
    public uint mtimensec;
    public uint ctimensec;
    public uint mode;
    public uint nlink;
    public uint uid;
    public uint gid;
    public uint rdev;
    public uint blksize;
    public uint flags;
}

/// <summary>Reply to FUSE_GETATTR and FUSE_SETATTR.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct fuse_attr_out
{
    public ulong attr_valid;
    public uint attr_valid_nsec;
    public uint dummy;
    public fuse_attr attr;
}

/// <summary>FUSE_SETATTR request; <see cref="valid"/> holds FATTR_ bits.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct fuse_setattr_in
{
    public uint valid;
    public uint padding;
    public ulong fh;
    public ulong size;
    public ulong lock_owner;
    public ulong atime;
    public ulong mtime;
    public ulong ctime;
    public uint atimensec;
    public uint mtimensec;
    public uint ctimensec;
    public uint mode;
    public uint unused4;
    public uint uid;
    public uint gid;
    public uint unused5;
}

/// <summary>What statfs(2) shows; block counts are in units of <see cref="frsize"/>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct fuse_kstatfs
{
    public ulong blocks;
    public ulong bfree;
    public ulong bavail;
    public ulong files;
    public ulong ffree;
    public uint bsize;
    public uint namelen;
    public uint frsize;
    public uint padding;
    public Spare6 spare;

    [InlineArray(6)]
    internal struct Spare6
    {
        private uint _element;
    }
}

/// <summary>Reply to FUSE_STATFS.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct fuse_statfs_out
{
    public fuse_kstatfs st;
}
