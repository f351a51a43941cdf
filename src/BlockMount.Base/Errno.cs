namespace BlockMount.Base;

/// <summary>Linux error numbers that the data path meets, spelled as in errno.h. Other values are legal too.</summary>
public enum Errno
{
    None = 0,
    EPERM = 1,
    ENOENT = 2,
    EINTR = 4,
    EIO = 5,
    ENXIO = 6,
    EBADF = 9,
    EAGAIN = 11,
    ENOMEM = 12,
    EACCES = 13,
    EBUSY = 16,
    EEXIST = 17,
    ENODEV = 19,
    ENOTDIR = 20,
    EISDIR = 21,
    EINVAL = 22,
    EFBIG = 27,
    ENOSPC = 28,
    EROFS = 30,
    EPIPE = 32,
    ERANGE = 34,
    ENOSYS = 38,
    ELOOP = 40,
    EOVERFLOW = 75,
    EOPNOTSUPP = 95,
    EADDRINUSE = 98,
    ENOTCONN = 107,
    ESHUTDOWN = 108,
    ESTALE = 116,
    EDQUOT = 122,
}

/// <summary>Words for error numbers.</summary>
public static class ErrnoText
{
    /// <summary>The system's sentence for <paramref name="errno"/>, as "No space left on device". Not for hot paths.</summary>
    public static string Describe(Errno errno) => Mono.Unix.UnixMarshal.GetErrorDescription((Mono.Unix.Native.Errno)(int)errno);
}
