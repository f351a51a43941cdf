using System.Buffers.Binary;

namespace BlockMount.Exports.Nbd.Wire;

/// <summary>Simple reply; the data of a successful read follows it.</summary>
public readonly record struct NbdSimpleReply(uint Error, ulong Cookie)
{
    /// <summary>Bytes on the wire.</summary>
    public const int Size = 16;

    // 0: u32 magic  4: u32 error  8: u64 cookie   big-endian

    /// <summary>Reads the first <see cref="Size"/> bytes; false when there are fewer or the magic is wrong.</summary>
    public static bool TryRead(ReadOnlySpan<byte> wire, out NbdSimpleReply reply)
    {
        if (wire.Length < Size || BinaryPrimitives.ReadUInt32BigEndian(wire) != NbdConstants.NBD_SIMPLE_REPLY_MAGIC)
        {
            reply = default;
            return false;
        }

        reply = new NbdSimpleReply(BinaryPrimitives.ReadUInt32BigEndian(wire[4..]), BinaryPrimitives.ReadUInt64BigEndian(wire[8..]));
        return true;
    }

    /// <summary>Writes <see cref="Size"/> bytes.</summary>
    public void Write(Span<byte> wire)
    {
        BinaryPrimitives.WriteUInt32BigEndian(wire, NbdConstants.NBD_SIMPLE_REPLY_MAGIC);
        BinaryPrimitives.WriteUInt32BigEndian(wire[4..], Error);
        BinaryPrimitives.WriteUInt64BigEndian(wire[8..], Cookie);
    }
}

/// <summary>Head of one chunk of a structured reply; <paramref name="Length"/> bytes of content follow.</summary>
public readonly record struct NbdReplyChunk(ushort Flags, ushort Type, ulong Cookie, uint Length)
{
    /// <summary>Bytes on the wire.</summary>
    public const int Size = 20;

    // 0: u32 magic  4: u16 flags  6: u16 type  8: u64 cookie  16: u32 length of the content   big-endian
    // NBD_REPLY_TYPE_OFFSET_DATA   20: u64 offset  28: data
    // NBD_REPLY_TYPE_OFFSET_HOLE   20: u64 offset  28: u32 length of the hole
    // NBD_REPLY_TYPE_BLOCK_STATUS  20: u32 context id  24: { u32 length, u32 flags } ...
    // NBD_REPLY_TYPE_ERROR         20: u32 error  24: u16 length of the message  26: message

    /// <summary>Bytes before the data of an OFFSET_DATA chunk.</summary>
    public const int OffsetDataHeadSize = Size + 8;

    /// <summary>Bytes of a whole OFFSET_HOLE chunk.</summary>
    public const int OffsetHoleSize = Size + 12;

    /// <summary>Bytes before the first extent of a BLOCK_STATUS chunk.</summary>
    public const int BlockStatusHeadSize = Size + 4;

    /// <summary>Bytes of one extent of a BLOCK_STATUS chunk.</summary>
    public const int ExtentSize = 8;

    /// <summary>Bytes before the message of an ERROR chunk.</summary>
    public const int ErrorHeadSize = Size + 6;

    /// <summary>Reads the first <see cref="Size"/> bytes; false when there are fewer or the magic is wrong.</summary>
    public static bool TryRead(ReadOnlySpan<byte> wire, out NbdReplyChunk chunk)
    {
        if (wire.Length < Size || BinaryPrimitives.ReadUInt32BigEndian(wire) != NbdConstants.NBD_STRUCTURED_REPLY_MAGIC)
        {
            chunk = default;
            return false;
        }

        chunk = new NbdReplyChunk(
            BinaryPrimitives.ReadUInt16BigEndian(wire[4..]),
            BinaryPrimitives.ReadUInt16BigEndian(wire[6..]),
            BinaryPrimitives.ReadUInt64BigEndian(wire[8..]),
            BinaryPrimitives.ReadUInt32BigEndian(wire[16..]));
        return true;
    }

    /// <summary>Writes <see cref="Size"/> bytes.</summary>
    public void Write(Span<byte> wire)
    {
        BinaryPrimitives.WriteUInt32BigEndian(wire, NbdConstants.NBD_STRUCTURED_REPLY_MAGIC);
        BinaryPrimitives.WriteUInt16BigEndian(wire[4..], Flags);
        BinaryPrimitives.WriteUInt16BigEndian(wire[6..], Type);
        BinaryPrimitives.WriteUInt64BigEndian(wire[8..], Cookie);
        BinaryPrimitives.WriteUInt32BigEndian(wire[16..], Length);
    }

    /// <summary>Writes the <see cref="OffsetDataHeadSize"/> bytes before <paramref name="length"/> bytes of data.</summary>
    public static void WriteOffsetData(Span<byte> wire, ushort flags, ulong cookie, ulong offset, int length)
    {
        new NbdReplyChunk(flags, NbdConstants.NBD_REPLY_TYPE_OFFSET_DATA, cookie, (uint)length + 8).Write(wire);
        BinaryPrimitives.WriteUInt64BigEndian(wire[Size..], offset);
    }

    /// <summary>Writes a chunk of <see cref="OffsetHoleSize"/> bytes.</summary>
    public static void WriteOffsetHole(Span<byte> wire, ushort flags, ulong cookie, ulong offset, uint length)
    {
        new NbdReplyChunk(flags, NbdConstants.NBD_REPLY_TYPE_OFFSET_HOLE, cookie, 12).Write(wire);
        BinaryPrimitives.WriteUInt64BigEndian(wire[Size..], offset);
        BinaryPrimitives.WriteUInt32BigEndian(wire[(Size + 8)..], length);
    }

    /// <summary>Writes a final error chunk with its message (UTF-8, cut by the caller) and returns the bytes written.</summary>
    public static int WriteError(Span<byte> wire, ulong cookie, uint error, ReadOnlySpan<byte> message)
    {
        new NbdReplyChunk(NbdConstants.NBD_REPLY_FLAG_DONE, NbdConstants.NBD_REPLY_TYPE_ERROR, cookie, 6 + (uint)message.Length).Write(wire);
        BinaryPrimitives.WriteUInt32BigEndian(wire[Size..], error);
        BinaryPrimitives.WriteUInt16BigEndian(wire[(Size + 4)..], (ushort)message.Length);
        message.CopyTo(wire[ErrorHeadSize..]);
        return ErrorHeadSize + message.Length;
    }
}
