using BlockMount.Exports.Nbd.Wire;
using static BlockMount.Exports.Nbd.Wire.NbdConstants;

namespace BlockMount.Exports.Nbd;

/// <summary>
/// What can be wrong with a request of one client, one error each, before any of it is carried out (NBD protocol, "Request types" and "Error values").
/// Immutable; any thread.
/// </summary>
internal sealed class NbdRequestCheck
{
    private readonly NbdSession _session;

    public NbdRequestCheck(NbdSession session) => _session = session;

    /// <summary>The error that the request is refused with, and why; 0 if it may be carried out.</summary>
    public uint Validate(in NbdRequestHeader request, out string reason)
    {
        reason = "";
        switch (request.Type)
        {
            case NBD_CMD_READ:
                return CheckFlags(request, _session.StructuredReplies ? NBD_CMD_FLAG_DF : 0, ref reason)
                    ?? CheckPayload(request, ref reason) ?? CheckRange(request, NBD_EINVAL, ref reason) ?? 0;
            case NBD_CMD_WRITE:
                return CheckFlags(request, 0, ref reason) ?? CheckWritable(ref reason)
                    ?? CheckPayload(request, ref reason) ?? CheckRange(request, NBD_ENOSPC, ref reason) ?? 0;
            case NBD_CMD_FLUSH:
                return CheckFlags(request, 0, ref reason) ?? 0;
            case NBD_CMD_TRIM:
                return CheckFlags(request, 0, ref reason) ?? CheckWritable(ref reason) ?? CheckRange(request, NBD_EINVAL, ref reason) ?? 0;
            case NBD_CMD_CACHE:
                return CheckFlags(request, 0, ref reason) ?? CheckRange(request, NBD_EINVAL, ref reason) ?? 0;
            case NBD_CMD_WRITE_ZEROES:
                return CheckFlags(request, NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO, ref reason) ?? CheckWritable(ref reason)
                    ?? CheckRange(request, NBD_ENOSPC, ref reason) ?? CheckFastZero(request, ref reason) ?? 0;
            case NBD_CMD_BLOCK_STATUS:
                return CheckFlags(request, NBD_CMD_FLAG_REQ_ONE, ref reason) ?? CheckBlockStatus(request, ref reason)
                    ?? CheckRange(request, NBD_EINVAL, ref reason) ?? 0;
            default:
                reason = "unknown command";
                return NBD_EINVAL;
        }
    }

    // FUA is legal on every command and means nothing where nothing is written.
    private static uint? CheckFlags(in NbdRequestHeader request, int allowed, ref string reason)
    {
        if ((request.Flags & ~(allowed | NBD_CMD_FLAG_FUA)) == 0)
        {
            return null;
        }

        reason = "a flag is unknown or was not negotiated";
        return NBD_EINVAL;
    }

    private uint? CheckWritable(ref string reason)
    {
        if (_session.Export.Writable)
        {
            return null;
        }

        reason = "the export is read-only";
        return NBD_EPERM;
    }

    private static uint? CheckPayload(in NbdRequestHeader request, ref string reason)
    {
        if (request.Length <= NbdExport.RequestBytesMax)
        {
            return null;
        }

        reason = "the request is longer than 32 MiB";
        return NBD_EINVAL;
    }

    private uint? CheckRange(in NbdRequestHeader request, uint error, ref string reason)
    {
        ulong size = (ulong)_session.Export.Size;
        if (request.Offset <= size && request.Length <= size - request.Offset)
        {
            return null;
        }

        reason = "the request goes past the end of the export";
        return error;
    }

    private static uint? CheckFastZero(in NbdRequestHeader request, ref string reason)
    {
        if ((request.Flags & NBD_CMD_FLAG_FAST_ZERO) == 0)
        {
            return null;
        }

        reason = "zeroing is not known to be faster than writing";
        return NBD_ENOTSUP;
    }

    private uint? CheckBlockStatus(in NbdRequestHeader request, ref string reason)
    {
        if (_session.BaseAllocation && request.Length > 0)
        {
            return null;
        }

        reason = _session.BaseAllocation ? "block status of no bytes" : "no meta context was negotiated";
        return NBD_EINVAL;
    }
}
