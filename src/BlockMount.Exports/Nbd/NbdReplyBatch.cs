using System.Diagnostics;
using System.Text;
using BlockMount.Base.Buffers;
using BlockMount.Exports.Nbd.Wire;
using static BlockMount.Exports.Nbd.Wire.NbdConstants;

namespace BlockMount.Exports.Nbd;

/// <summary>
/// Replies of requests that completed on the receiving thread, gathered for one send. Reads go to the device with memory
/// inside the batch, behind space for their header, so data is not copied. Used by the connection's thread only.
/// </summary>
internal sealed class NbdReplyBatch : IDisposable
{
    /// <summary>Longest read that is served inside the batch, in bytes.</summary>
    public const int ReadBytesMax = 64 << 10;

    /// <summary>Room that <see cref="WriteError"/> may need, in bytes.</summary>
    public const int ErrorSizeMax = NbdReplyChunk.ErrorHeadSize + 3 * ErrorCharsMax;

    private const int ErrorCharsMax = 80;

    private const int Capacity = 256 << 10;

    // With more than this at hand the client gets something to do.
    private const int FlushBytes = 128 << 10;

    private readonly NbdSender _sender;
    private readonly bool _structured;

    // The first reply starts here, which puts the data of a read on a page boundary.
    private readonly int _first;

    private AlignedBuffer _buffer = AlignedBufferPool.Shared.Rent(Capacity);

    // [_start, _end) is ready and not sent.
    private int _start;
    private int _end;

    // Bytes of the reply being prepared behind _end; 0 when there is none.
    private int _reserved;

    public NbdReplyBatch(NbdSender sender, bool structured)
    {
        _sender = sender;
        _structured = structured;
        _first = AlignedBuffer.PageSize - ReadHeadSize(structured);
        _start = _first;
        _end = _first;
    }

    /// <summary>Bytes before the data of a read reply.</summary>
    public static int ReadHeadSize(bool structured) => structured ? NbdReplyChunk.OffsetDataHeadSize : NbdSimpleReply.Size;

    /// <summary>Writes the head of a read reply that carries all of the request's data, which is not empty.</summary>
    public static void WriteReadHead(Span<byte> wire, bool structured, in NbdRequestHeader request)
    {
        if (structured)
        {
            NbdReplyChunk.WriteOffsetData(wire, NBD_REPLY_FLAG_DONE, request.Cookie, request.Offset, (int)request.Length);
        }
        else
        {
            new NbdSimpleReply(0, request.Cookie).Write(wire);
        }
    }

    /// <summary>Prepares a read reply and returns where its data goes. Follow up with commit, detach or an error.</summary>
    public Memory<byte> ReserveRead(in NbdRequestHeader request)
    {
        Debug.Assert(request.Length is > 0 and <= ReadBytesMax);
        int headSize = ReadHeadSize(_structured);
        EnsureRoom(headSize + (int)request.Length);
        _reserved = headSize + (int)request.Length;
        WriteReadHead(_buffer.GetSpan()[_end..], _structured, request);
        return _buffer.Memory.Slice(_end + headSize, (int)request.Length);
    }

    /// <summary>The reserved data is there.</summary>
    public void CommitRead()
    {
        Debug.Assert(_reserved > 0);
        _end += _reserved;
        _reserved = 0;
        FlushIfLarge();
    }

    /// <summary>The reserved read goes on by itself: <paramref name="request"/> takes the buffer over, the batch goes on with another.</summary>
    public void DetachRead(NbdRequest request)
    {
        Debug.Assert(_reserved > 0);
        Flush();
        request.TakeReply(_buffer, _end, _reserved);
        _buffer = AlignedBufferPool.Shared.Rent(Capacity);
        _reserved = 0;
        _start = _first;
        _end = _first;
    }

    /// <summary>Adds the answer to a request that has no data to return.</summary>
    public void AddSuccess(in NbdRequestHeader request)
    {
        Debug.Assert(_reserved == 0);
        EnsureRoom(NbdReplyChunk.Size);
        _end += WriteSuccess(_buffer.GetSpan()[_end..], _structured, request);
    }

    /// <summary>Adds a refusal or failure, in place of a reserved reply if there is one.</summary>
    public void AddError(ulong cookie, uint error, string message)
    {
        _reserved = 0;
        EnsureRoom(ErrorSizeMax);
        _end += WriteError(_buffer.GetSpan()[_end..], _structured, cookie, error, message);
    }

    /// <summary>Adds a finished reply: copied when small, else sent at once.</summary>
    public void Add(ReadOnlySpan<byte> reply)
    {
        Debug.Assert(_reserved == 0);
        if (reply.Length > ReadBytesMax)
        {
            Flush();
            _sender.Send(reply);
            return;
        }

        EnsureRoom(reply.Length);
        reply.CopyTo(_buffer.GetSpan()[_end..]);
        _end += reply.Length;
        FlushIfLarge();
    }

    /// <summary>Sends what is ready. A reserved reply stays where it is.</summary>
    public void Flush()
    {
        if (_end > _start)
        {
            _sender.Send(_buffer.GetSpan()[_start.._end]);
            _start = _end;
        }

        if (_reserved == 0)
        {
            _start = _first;
            _end = _first;
        }
    }

    /// <summary>Frees memory without sending.</summary>
    public void Dispose() => AlignedBufferPool.Shared.Return(_buffer);

    /// <summary>Writes an answer without data and returns its length. A simple reply will do except for reads (of no bytes) in structured mode.</summary>
    public static int WriteSuccess(Span<byte> wire, bool structured, in NbdRequestHeader request)
    {
        if (structured && request.Type == NBD_CMD_READ)
        {
            new NbdReplyChunk(NBD_REPLY_FLAG_DONE, NBD_REPLY_TYPE_NONE, request.Cookie, 0).Write(wire);
            return NbdReplyChunk.Size;
        }

        new NbdSimpleReply(0, request.Cookie).Write(wire);
        return NbdSimpleReply.Size;
    }

    /// <summary>Writes an error, with its message where the client can take it, and returns its length (at most <see cref="ErrorSizeMax"/>).</summary>
    public static int WriteError(Span<byte> wire, bool structured, ulong cookie, uint error, string message)
    {
        if (!structured)
        {
            new NbdSimpleReply(error, cookie).Write(wire);
            return NbdSimpleReply.Size;
        }

        Span<byte> text = stackalloc byte[3 * ErrorCharsMax];
        int length = Encoding.UTF8.GetBytes(message.AsSpan(0, Math.Min(message.Length, ErrorCharsMax)), text);
        return NbdReplyChunk.WriteError(wire, cookie, error, text[..length]);
    }

    private void EnsureRoom(int length)
    {
        if (_end + length > _buffer.Length)
        {
            Debug.Assert(_reserved == 0);
            Flush();
        }
    }

    private void FlushIfLarge()
    {
        if (_end - _start >= FlushBytes)
        {
            Flush();
        }
    }
}
