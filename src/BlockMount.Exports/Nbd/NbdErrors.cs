using BlockMount.Base;
using static BlockMount.Exports.Nbd.Wire.NbdConstants;

namespace BlockMount.Exports.Nbd;

/// <summary>The one place where failures become NBD error values (FEATURES X7).</summary>
internal static class NbdErrors
{
    /// <summary>The wire value for a failed device operation.</summary>
    public static uint FromException(Exception error) => error switch
    {
        BlockIOException io => FromErrno(io.Errno),
        OutOfMemoryException => NBD_ENOMEM,
        _ => NBD_EIO,
    };

    /// <summary>The wire value for a Linux error number.</summary>
    public static uint FromErrno(Errno errno) => errno switch
    {
        Errno.EPERM or Errno.EROFS => NBD_EPERM,
        Errno.EIO => NBD_EIO,
        Errno.ENOMEM => NBD_ENOMEM,
        Errno.ENOSPC or Errno.EFBIG or Errno.EDQUOT => NBD_ENOSPC,
        Errno.EOVERFLOW => NBD_EOVERFLOW,
        Errno.EOPNOTSUPP => NBD_ENOTSUP,
        Errno.ESHUTDOWN => NBD_ESHUTDOWN,
        _ => NBD_EINVAL,
    };

    /// <summary>What a command is called in messages.</summary>
    public static string CommandName(ushort type) => type switch
    {
        NBD_CMD_READ => "read",
        NBD_CMD_WRITE => "write",
        NBD_CMD_DISC => "disconnect",
        NBD_CMD_FLUSH => "flush",
        NBD_CMD_TRIM => "trim",
        NBD_CMD_CACHE => "cache",
        NBD_CMD_WRITE_ZEROES => "write zeroes",
        NBD_CMD_BLOCK_STATUS => "block status",
        _ => "unknown command",
    };
}
