using System.Buffers.Binary;

namespace BlockMount.Exports.Nbd.Wire;

/// <summary>A request without its payload ("Request message" of the specification).</summary>
public readonly record struct NbdRequestHeader(ushort Flags, ushort Type, ulong Cookie, ulong Offset, uint Length)
{
    /// <summary>Bytes on the wire.</summary>
    public const int Size = 28;

    // 0: u32 magic  4: u16 flags  6: u16 type  8: u64 cookie  16: u64 offset  24: u32 length   big-endian

    /// <summary>Reads the first <see cref="Size"/> bytes; false when there are fewer or the magic is wrong.</summary>
    public static bool TryRead(ReadOnlySpan<byte> wire, out NbdRequestHeader header)
    {
        if (wire.Length < Size || BinaryPrimitives.ReadUInt32BigEndian(wire) != NbdConstants.NBD_REQUEST_MAGIC)
        {
            header = default;
            return false;
        }

        header = new NbdRequestHeader(
            BinaryPrimitives.ReadUInt16BigEndian(wire[4..]),
            BinaryPrimitives.ReadUInt16BigEndian(wire[6..]),
            BinaryPrimitives.ReadUInt64BigEndian(wire[8..]),
            BinaryPrimitives.ReadUInt64BigEndian(wire[16..]),
            BinaryPrimitives.ReadUInt32BigEndian(wire[24..]));
        return true;
    }

    /// <summary>Writes <see cref="Size"/> bytes.</summary>
    public void Write(Span<byte> wire)
    {
        BinaryPrimitives.WriteUInt32BigEndian(wire, NbdConstants.NBD_REQUEST_MAGIC);
        BinaryPrimitives.WriteUInt16BigEndian(wire[4..], Flags);
        BinaryPrimitives.WriteUInt16BigEndian(wire[6..], Type);
        BinaryPrimitives.WriteUInt64BigEndian(wire[8..], Cookie);
        BinaryPrimitives.WriteUInt64BigEndian(wire[16..], Offset);
        BinaryPrimitives.WriteUInt32BigEndian(wire[24..], Length);
    }
}
