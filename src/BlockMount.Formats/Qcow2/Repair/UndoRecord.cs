using System.Buffers.Binary;
using System.Security.Cryptography;

namespace BlockMount.Formats.Qcow2.Repair;

/// <summary>What a record of an undo file says.</summary>
internal enum UndoRecordKind : uint
{
    /// <summary>Bytes that the image held at an offset.</summary>
    OldContent = 1,

    /// <summary>The repair ended; fingerprint of the image then.</summary>
    Sealed = 2,

    /// <summary>An undo has begun: the image may be anything between the two states.</summary>
    UndoBegun = 3,
}

/// <summary>
/// One record of an undo file. Big-endian:
/// <code>
/// file:    0: "BMUNDO\0\1"   8: u64 length of the image   16: 512 bytes, its header   528: SHA-256 of all before
/// record:  0: u32 kind   4: u32 length of the content   8: u64 offset   16: content   then SHA-256 of all before
/// </code>
/// A record that is torn does not count; what it would have undone was not done.
/// </summary>
internal sealed record UndoRecord(UndoRecordKind Kind, long Offset, byte[] Content)
{
    internal const int ContentBytesMax = 1 << 20;
    internal const int ImageHeaderBytes = 512;
    internal const int StartBytes = 16 + ImageHeaderBytes + SHA256.HashSizeInBytes;
    internal const int PrefixBytes = 16;

    private static ReadOnlySpan<byte> Magic => "BMUNDO\0\x1"u8;

    internal static byte[] EncodeStart(long imageLength, ReadOnlySpan<byte> imageHeader)
    {
        byte[] bytes = new byte[StartBytes];
        Magic.CopyTo(bytes);
        BinaryPrimitives.WriteInt64BigEndian(bytes.AsSpan(8), imageLength);
        imageHeader.CopyTo(bytes.AsSpan(16));
        Sign(bytes);
        return bytes;
    }

    /// <summary>False if this is no undo file.</summary>
    internal static bool TryDecodeStart(ReadOnlySpan<byte> bytes, out long imageLength, out byte[] imageHeader)
    {
        imageLength = BinaryPrimitives.ReadInt64BigEndian(bytes[8..]);
        imageHeader = bytes.Slice(16, ImageHeaderBytes).ToArray();
        return bytes.StartsWith(Magic) && IsSigned(bytes);
    }

    internal byte[] Encode()
    {
        byte[] bytes = new byte[StoredBytes(Content.Length)];
        BinaryPrimitives.WriteUInt32BigEndian(bytes, (uint)Kind);
        BinaryPrimitives.WriteInt32BigEndian(bytes.AsSpan(4), Content.Length);
        BinaryPrimitives.WriteInt64BigEndian(bytes.AsSpan(8), Offset);
        Content.CopyTo(bytes, PrefixBytes);
        Sign(bytes);
        return bytes;
    }

    /// <summary>Bytes of a record in the file; -1 if the prefix cannot be one.</summary>
    internal static long StoredBytes(ReadOnlySpan<byte> prefix)
    {
        uint length = BinaryPrimitives.ReadUInt32BigEndian(prefix[4..]);
        return length > ContentBytesMax ? -1 : StoredBytes((int)length);
    }

    /// <summary>Null if the record is torn.</summary>
    internal static UndoRecord? Decode(ReadOnlySpan<byte> bytes) => IsSigned(bytes)
        ? new UndoRecord(
            (UndoRecordKind)BinaryPrimitives.ReadUInt32BigEndian(bytes),
            BinaryPrimitives.ReadInt64BigEndian(bytes[8..]),
            bytes[PrefixBytes..^SHA256.HashSizeInBytes].ToArray())
        : null;

    private static int StoredBytes(int content) => PrefixBytes + content + SHA256.HashSizeInBytes;

    private static void Sign(Span<byte> bytes) => SHA256.HashData(bytes[..^SHA256.HashSizeInBytes], bytes[^SHA256.HashSizeInBytes..]);

    private static bool IsSigned(ReadOnlySpan<byte> bytes)
    {
        Span<byte> hash = stackalloc byte[SHA256.HashSizeInBytes];
        SHA256.HashData(bytes[..^SHA256.HashSizeInBytes], hash);
        return hash.SequenceEqual(bytes[^SHA256.HashSizeInBytes..]);
    }
}
