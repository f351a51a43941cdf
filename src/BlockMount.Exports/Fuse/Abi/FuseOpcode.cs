namespace BlockMount.Exports.Fuse.Abi;

/// <summary>enum fuse_opcode of linux/fuse.h: what a request asks for. Values that are not listed are legal too.</summary>
internal enum FuseOpcode : uint
{
    FUSE_LOOKUP = 1,
    FUSE_FORGET = 2,
    FUSE_GETATTR = 3,
    FUSE_SETATTR = 4,
    FUSE_OPEN = 14,
    FUSE_READ = 15,
    FUSE_WRITE = 16,
    FUSE_STATFS = 17,
    FUSE_RELEASE = 18,
    FUSE_FSYNC = 20,
    FUSE_GETXATTR = 22,
    FUSE_FLUSH = 25,
    FUSE_INIT = 26,
    FUSE_INTERRUPT = 36,
    FUSE_DESTROY = 38,
    FUSE_BATCH_FORGET = 42,
    FUSE_FALLOCATE = 43,
    FUSE_LSEEK = 46,
}
