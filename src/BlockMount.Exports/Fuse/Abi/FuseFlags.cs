namespace BlockMount.Exports.Fuse.Abi;

/// <summary>Constants of linux/fuse.h, spelled as there.</summary>
internal static class FuseFlags
{
    public const uint FUSE_KERNEL_VERSION = 7;

    /// <summary>The minor version whose structures are declared in this folder; the kernel may offer less or more.</summary>
    public const uint FUSE_KERNEL_MINOR_VERSION = 38;

    public const ulong FUSE_ROOT_ID = 1;
    public const int FUSE_MIN_READ_BUFFER = 8192;
    public const int FUSE_COMPAT_22_INIT_OUT_SIZE = 24;

    // fuse_init_in.flags, fuse_init_out.flags
    public const uint FUSE_ASYNC_READ = 1 << 0;
    public const uint FUSE_BIG_WRITES = 1 << 5;
    public const uint FUSE_ASYNC_DIO = 1 << 15;
    public const uint FUSE_MAX_PAGES = 1 << 22;
    public const uint FUSE_INIT_EXT = 1 << 30;

    // Bits 32 and up of the same set: they travel in flags2, shifted down by 32.
    public const ulong FUSE_DIRECT_IO_ALLOW_MMAP = 1UL << 36;
    public const ulong FUSE_PASSTHROUGH = 1UL << 37;
    public const ulong FUSE_OVER_IO_URING = 1UL << 41;

    // fuse_open_out.open_flags
    public const uint FOPEN_DIRECT_IO = 1 << 0;
    public const uint FOPEN_PARALLEL_DIRECT_WRITES = 1 << 6;
    public const uint FOPEN_PASSTHROUGH = 1 << 7;

    // fuse_setattr_in.valid
    public const uint FATTR_MODE = 1 << 0;
    public const uint FATTR_UID = 1 << 1;
    public const uint FATTR_GID = 1 << 2;
    public const uint FATTR_SIZE = 1 << 3;
    public const uint FATTR_ATIME = 1 << 4;
    public const uint FATTR_MTIME = 1 << 5;
    public const uint FATTR_ATIME_NOW = 1 << 7;
    public const uint FATTR_MTIME_NOW = 1 << 8;
    public const uint FATTR_CTIME = 1 << 10;

    /// <summary>_IOR(229, 0, uint32_t).</summary>
    public const uint FUSE_DEV_IOC_CLONE = 0x8004e500;

    /// <summary>_IOW(229, 1, struct fuse_backing_map).</summary>
    public const uint FUSE_DEV_IOC_BACKING_OPEN = 0x4010e501;
}
