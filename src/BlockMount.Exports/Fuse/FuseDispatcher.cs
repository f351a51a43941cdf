using System.Runtime.CompilerServices;
using BlockMount.Base;
using BlockMount.Exports.Fuse.Abi;
using Microsoft.Extensions.Logging;

namespace BlockMount.Exports.Fuse;

/// <summary>
/// Turns a received frame into a call of the file operations, and every failure into a reply. What comes in is not trusted: frames
/// that are too short for what they ask are EINVAL, those without a usable header are dropped. Any thread.
/// </summary>
internal sealed partial class FuseDispatcher
{
    /// <summary>The reply length that says: send nothing.</summary>
    internal const int NoReply = 0;

    private readonly FuseFileOperations _file;
    private readonly FuseSpaceOperations _space;
    private readonly ILogger _logger;
    private readonly string _name;

    // Bits of errnos (by their lowest six bits) that were logged loudly: a dying disk must not flood the log.
    private ulong _loggedErrnos;

    /// <param name="name">The export, for the log.</param>
    internal FuseDispatcher(FuseFileOperations file, FuseSpaceOperations space, ILogger logger, string name)
    {
        _file = file;
        _space = space;
        _logger = logger;
        _name = name;
    }

    /// <summary>
    /// Serves the frame of <paramref name="frameLength"/> bytes in <paramref name="request"/>. Never throws.
    /// </summary>
    /// <returns>Length of the reply frame that is in the request now, or <see cref="NoReply"/>.</returns>
    internal ValueTask<int> HandleAsync(FuseRequest request, int frameLength)
    {
        if (request.TryParse(frameLength))
        {
            return ServeAsync(request);
        }

        LogBadFrame(_name, frameLength);
        return new ValueTask<int>(NoReply);
    }

    /// <summary>The answer to an entry of a ring that lies about its lengths.</summary>
    internal int Refuse(FuseRequest request)
    {
        LogBadFrame(_name, request.BodyLength);
        return request.ReplyStatus(Errno.EIO);
    }

    /// <summary>Serves a request whose header was taken out already. Never throws.</summary>
    /// <returns>Length of the reply frame that is in the request now, or <see cref="NoReply"/>.</returns>
    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    internal async ValueTask<int> ServeAsync(FuseRequest request)
    {
        try
        {
            return await DispatchAsync(request);
        }
        catch (Exception failure)
        {
            return Fail(request, failure);
        }
    }

    private ValueTask<int> DispatchAsync(FuseRequest request)
    {
        switch (request.Opcode)
        {
            case FuseOpcode.FUSE_FORGET:
            case FuseOpcode.FUSE_BATCH_FORGET:
                return new ValueTask<int>(NoReply);
            case FuseOpcode.FUSE_INTERRUPT:
                // ENOSYS: do not send these any more. Requests are short and are answered in any case.
                return new ValueTask<int>(request.ReplyStatus(Errno.ENOSYS));
            case FuseOpcode.FUSE_DESTROY:
                return new ValueTask<int>(request.ReplyStatus(Errno.None));
            case FuseOpcode.FUSE_STATFS:
                return new ValueTask<int>(_file.GetFileSystem(request));
        }

        // There is one inode: the root, a regular file.
        return request.NodeId == FuseFlags.FUSE_ROOT_ID
            ? DispatchOnFileAsync(request)
            : new ValueTask<int>(request.ReplyStatus(Errno.ENOENT));
    }

    private ValueTask<int> DispatchOnFileAsync(FuseRequest request)
    {
        switch (request.Opcode)
        {
            case FuseOpcode.FUSE_READ:
                return request.TryGetArgument(out fuse_read_in read) ? _file.ReadAsync(request, read) : Malformed(request);
            case FuseOpcode.FUSE_WRITE:
                return request.TryGetArgument(out fuse_write_in write) ? _file.WriteAsync(request, write) : Malformed(request);
            case FuseOpcode.FUSE_FALLOCATE:
                return request.TryGetArgument(out fuse_fallocate_in range) ? _space.AllocateAsync(request, range) : Malformed(request);
            case FuseOpcode.FUSE_LSEEK:
                return request.TryGetArgument(out fuse_lseek_in seek) ? _space.SeekAsync(request, seek) : Malformed(request);
            case FuseOpcode.FUSE_FLUSH:
                return _file.FlushAsync(request);
            case FuseOpcode.FUSE_FSYNC:
                return _file.SyncAsync(request);
            case FuseOpcode.FUSE_GETATTR:
                return new ValueTask<int>(_file.GetAttributes(request));
            case FuseOpcode.FUSE_SETATTR:
                return request.TryGetArgument(out fuse_setattr_in change) ? _file.SetAttributesAsync(request, change) : Malformed(request);
            case FuseOpcode.FUSE_OPEN:
                return request.TryGetArgument(out fuse_open_in open) ? new ValueTask<int>(_file.Open(request, open)) : Malformed(request);
            case FuseOpcode.FUSE_RELEASE:
                return new ValueTask<int>(request.ReplyStatus(Errno.None));
            case FuseOpcode.FUSE_LOOKUP:
                return new ValueTask<int>(request.ReplyStatus(Errno.ENOENT));
            default:
                // The kernel remembers ENOSYS and does not ask again.
                return new ValueTask<int>(request.ReplyStatus(Errno.ENOSYS));
        }
    }

    private static ValueTask<int> Malformed(FuseRequest request) => new(request.ReplyStatus(Errno.EINVAL));

    private int Fail(FuseRequest request, Exception failure)
    {
        Errno errno = FuseErrors.Of(failure);
        ulong bit = 1UL << ((int)errno & 63);
        bool first = (Interlocked.Or(ref _loggedErrnos, bit) & bit) == 0;
        if (failure is BlockIOException)
        {
            LogFailure(first ? LogLevel.Error : LogLevel.Debug, _name, request.Opcode, failure.Message);
        }
        else
        {
            LogUnexpected(first ? LogLevel.Error : LogLevel.Debug, failure, _name, request.Opcode);
        }

        return request.ReplyStatus(errno);
    }

    [LoggerMessage(Message = "{Export}: {Operation} failed: {Reason}")]
    private partial void LogFailure(LogLevel level, string export, FuseOpcode operation, string reason);

    [LoggerMessage(Message = "{Export}: {Operation} failed unexpectedly; the client sees EIO")]
    private partial void LogUnexpected(LogLevel level, Exception failure, string export, FuseOpcode operation);

    [LoggerMessage(Level = LogLevel.Warning, Message = "{Export}: dropped a frame of {Length} bytes that is too short or lies about its length")]
    private partial void LogBadFrame(string export, int length);
}
