using System.Buffers.Binary;
using System.Text;

namespace BlockMount.Exports.Nbd.Wire;

/// <summary>What the server says first.</summary>
public readonly record struct NbdGreeting(ushort Flags)
{
    /// <summary>Bytes on the wire.</summary>
    public const int Size = 18;

    // 0: u64 "NBDMAGIC"  8: u64 "IHAVEOPT"  16: u16 handshake flags   big-endian

    /// <summary>Reads the first <see cref="Size"/> bytes; false when there are fewer or the magic is wrong.</summary>
    public static bool TryRead(ReadOnlySpan<byte> wire, out NbdGreeting greeting)
    {
        bool valid = wire.Length >= Size
            && BinaryPrimitives.ReadUInt64BigEndian(wire) == NbdConstants.NBDMAGIC
            && BinaryPrimitives.ReadUInt64BigEndian(wire[8..]) == NbdConstants.IHAVEOPT;
        greeting = valid ? new NbdGreeting(BinaryPrimitives.ReadUInt16BigEndian(wire[16..])) : default;
        return valid;
    }

    /// <summary>Writes <see cref="Size"/> bytes.</summary>
    public void Write(Span<byte> wire)
    {
        BinaryPrimitives.WriteUInt64BigEndian(wire, NbdConstants.NBDMAGIC);
        BinaryPrimitives.WriteUInt64BigEndian(wire[8..], NbdConstants.IHAVEOPT);
        BinaryPrimitives.WriteUInt16BigEndian(wire[16..], Flags);
    }
}

/// <summary>Head of an option that a client sends; <paramref name="Length"/> bytes follow.</summary>
public readonly record struct NbdOptionHeader(uint Option, uint Length)
{
    /// <summary>Bytes on the wire.</summary>
    public const int Size = 16;

    // 0: u64 "IHAVEOPT"  8: u32 option  12: u32 length   big-endian

    /// <summary>Reads the first <see cref="Size"/> bytes; false when there are fewer or the magic is wrong.</summary>
    public static bool TryRead(ReadOnlySpan<byte> wire, out NbdOptionHeader header)
    {
        if (wire.Length < Size || BinaryPrimitives.ReadUInt64BigEndian(wire) != NbdConstants.IHAVEOPT)
        {
            header = default;
            return false;
        }

        header = new NbdOptionHeader(BinaryPrimitives.ReadUInt32BigEndian(wire[8..]), BinaryPrimitives.ReadUInt32BigEndian(wire[12..]));
        return true;
    }

    /// <summary>Writes <see cref="Size"/> bytes.</summary>
    public void Write(Span<byte> wire)
    {
        BinaryPrimitives.WriteUInt64BigEndian(wire, NbdConstants.IHAVEOPT);
        BinaryPrimitives.WriteUInt32BigEndian(wire[8..], Option);
        BinaryPrimitives.WriteUInt32BigEndian(wire[12..], Length);
    }
}

/// <summary>Head of the server's answer to an option; <paramref name="Length"/> bytes follow.</summary>
public readonly record struct NbdOptionReply(uint Option, uint Type, uint Length)
{
    /// <summary>Bytes on the wire.</summary>
    public const int Size = 20;

    // 0: u64 magic  8: u32 option  12: u32 reply type  16: u32 length   big-endian

    /// <summary>Reads the first <see cref="Size"/> bytes; false when there are fewer or the magic is wrong.</summary>
    public static bool TryRead(ReadOnlySpan<byte> wire, out NbdOptionReply reply)
    {
        if (wire.Length < Size || BinaryPrimitives.ReadUInt64BigEndian(wire) != NbdConstants.NBD_OPT_REPLY_MAGIC)
        {
            reply = default;
            return false;
        }

        reply = new NbdOptionReply(
            BinaryPrimitives.ReadUInt32BigEndian(wire[8..]),
            BinaryPrimitives.ReadUInt32BigEndian(wire[12..]),
            BinaryPrimitives.ReadUInt32BigEndian(wire[16..]));
        return true;
    }

    /// <summary>Writes <see cref="Size"/> bytes.</summary>
    public void Write(Span<byte> wire)
    {
        BinaryPrimitives.WriteUInt64BigEndian(wire, NbdConstants.NBD_OPT_REPLY_MAGIC);
        BinaryPrimitives.WriteUInt32BigEndian(wire[8..], Option);
        BinaryPrimitives.WriteUInt32BigEndian(wire[12..], Type);
        BinaryPrimitives.WriteUInt32BigEndian(wire[16..], Length);
    }
}

/// <summary>Reads the fields of an option's data in order. Every read says its limit and fails rather than running over the end.</summary>
public ref struct NbdOptionReader
{
    private static readonly UTF8Encoding s_strictUtf8 = new(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: true);

    private ReadOnlySpan<byte> _rest;

    public NbdOptionReader(ReadOnlySpan<byte> data) => _rest = data;

    /// <summary>True when everything has been read.</summary>
    public readonly bool AtEnd => _rest.IsEmpty;

    /// <summary>Reads two bytes.</summary>
    public bool TryReadUInt16(out ushort value)
    {
        bool read = BinaryPrimitives.TryReadUInt16BigEndian(_rest, out value);
        _rest = read ? _rest[2..] : _rest;
        return read;
    }

    /// <summary>Reads four bytes.</summary>
    public bool TryReadUInt32(out uint value)
    {
        bool read = BinaryPrimitives.TryReadUInt32BigEndian(_rest, out value);
        _rest = read ? _rest[4..] : _rest;
        return read;
    }

    /// <summary>Reads a 32-bit length and that many bytes: UTF-8 without NUL, at most <see cref="NbdConstants.StringBytesMax"/> bytes.</summary>
    public bool TryReadString(out string text)
    {
        text = "";
        if (!TryReadUInt32(out uint length) || length > (uint)_rest.Length || !TryDecode(_rest[..(int)length], out text))
        {
            return false;
        }

        _rest = _rest[(int)length..];
        return true;
    }

    /// <summary>Decodes a string of the protocol: UTF-8 without NUL, at most <see cref="NbdConstants.StringBytesMax"/> bytes.</summary>
    public static bool TryDecode(ReadOnlySpan<byte> bytes, out string text)
    {
        text = "";
        if (bytes.Length > NbdConstants.StringBytesMax || bytes.Contains((byte)0))
        {
            return false;
        }

        try
        {
            text = s_strictUtf8.GetString(bytes);
            return true;
        }
        catch (DecoderFallbackException)
        {
            return false;
        }
    }
}
