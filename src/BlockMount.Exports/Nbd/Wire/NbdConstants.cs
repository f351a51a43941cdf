namespace BlockMount.Exports.Nbd.Wire;

/// <summary>Numbers of the NBD protocol, spelled as in its specification (doc/proto.md of the NBD project). Values are big-endian on the wire.</summary>
public static class NbdConstants
{
    // Handshake.
    public const ulong NBDMAGIC = 0x4e42444d41474943;
    public const ulong IHAVEOPT = 0x49484156454f5054;
    public const ulong NBD_OPT_REPLY_MAGIC = 0x0003e889045565a9;

    public const ushort NBD_FLAG_FIXED_NEWSTYLE = 1 << 0;
    public const ushort NBD_FLAG_NO_ZEROES = 1 << 1;
    public const uint NBD_FLAG_C_FIXED_NEWSTYLE = 1 << 0;
    public const uint NBD_FLAG_C_NO_ZEROES = 1 << 1;

    public const uint NBD_OPT_EXPORT_NAME = 1;
    public const uint NBD_OPT_ABORT = 2;
    public const uint NBD_OPT_LIST = 3;
    public const uint NBD_OPT_STARTTLS = 5;
    public const uint NBD_OPT_INFO = 6;
    public const uint NBD_OPT_GO = 7;
    public const uint NBD_OPT_STRUCTURED_REPLY = 8;
    public const uint NBD_OPT_LIST_META_CONTEXT = 9;
    public const uint NBD_OPT_SET_META_CONTEXT = 10;
    public const uint NBD_OPT_EXTENDED_HEADERS = 11;

    public const uint NBD_REP_ACK = 1;
    public const uint NBD_REP_SERVER = 2;
    public const uint NBD_REP_INFO = 3;
    public const uint NBD_REP_META_CONTEXT = 4;
    public const uint NBD_REP_ERR_UNSUP = 0x80000001;
    public const uint NBD_REP_ERR_POLICY = 0x80000002;
    public const uint NBD_REP_ERR_INVALID = 0x80000003;
    public const uint NBD_REP_ERR_UNKNOWN = 0x80000006;
    public const uint NBD_REP_ERR_TOO_BIG = 0x80000009;

    public const ushort NBD_INFO_EXPORT = 0;
    public const ushort NBD_INFO_NAME = 1;
    public const ushort NBD_INFO_DESCRIPTION = 2;
    public const ushort NBD_INFO_BLOCK_SIZE = 3;

    // Transmission flags of an export.
    public const ushort NBD_FLAG_HAS_FLAGS = 1 << 0;
    public const ushort NBD_FLAG_READ_ONLY = 1 << 1;
    public const ushort NBD_FLAG_SEND_FLUSH = 1 << 2;
    public const ushort NBD_FLAG_SEND_FUA = 1 << 3;
    public const ushort NBD_FLAG_SEND_TRIM = 1 << 5;
    public const ushort NBD_FLAG_SEND_WRITE_ZEROES = 1 << 6;
    public const ushort NBD_FLAG_SEND_DF = 1 << 7;
    public const ushort NBD_FLAG_CAN_MULTI_CONN = 1 << 8;
    public const ushort NBD_FLAG_SEND_CACHE = 1 << 10;
    public const ushort NBD_FLAG_SEND_FAST_ZERO = 1 << 11;

    // Requests.
    public const uint NBD_REQUEST_MAGIC = 0x25609513;

    public const ushort NBD_CMD_READ = 0;
    public const ushort NBD_CMD_WRITE = 1;
    public const ushort NBD_CMD_DISC = 2;
    public const ushort NBD_CMD_FLUSH = 3;
    public const ushort NBD_CMD_TRIM = 4;
    public const ushort NBD_CMD_CACHE = 5;
    public const ushort NBD_CMD_WRITE_ZEROES = 6;
    public const ushort NBD_CMD_BLOCK_STATUS = 7;

    public const ushort NBD_CMD_FLAG_FUA = 1 << 0;
    public const ushort NBD_CMD_FLAG_NO_HOLE = 1 << 1;
    public const ushort NBD_CMD_FLAG_DF = 1 << 2;
    public const ushort NBD_CMD_FLAG_REQ_ONE = 1 << 3;
    public const ushort NBD_CMD_FLAG_FAST_ZERO = 1 << 4;

    // Replies.
    public const uint NBD_SIMPLE_REPLY_MAGIC = 0x67446698;
    public const uint NBD_STRUCTURED_REPLY_MAGIC = 0x668e33ef;

    public const ushort NBD_REPLY_FLAG_DONE = 1 << 0;

    public const ushort NBD_REPLY_TYPE_NONE = 0;
    public const ushort NBD_REPLY_TYPE_OFFSET_DATA = 1;
    public const ushort NBD_REPLY_TYPE_OFFSET_HOLE = 2;
    public const ushort NBD_REPLY_TYPE_BLOCK_STATUS = 5;
    public const ushort NBD_REPLY_TYPE_ERROR = 0x8001;

    public const uint NBD_STATE_HOLE = 1 << 0;
    public const uint NBD_STATE_ZERO = 1 << 1;

    // Error values, independent of the host's errno numbers.
    public const uint NBD_EPERM = 1;
    public const uint NBD_EIO = 5;
    public const uint NBD_ENOMEM = 12;
    public const uint NBD_EINVAL = 22;
    public const uint NBD_ENOSPC = 28;
    public const uint NBD_EOVERFLOW = 75;
    public const uint NBD_ENOTSUP = 95;
    public const uint NBD_ESHUTDOWN = 108;

    /// <summary>Longest string the protocol admits (export names, descriptions, queries, error messages), in bytes.</summary>
    public const int StringBytesMax = 4096;
}
