using System.Buffers.Binary;

namespace BlockMount.Formats.Qcow2.OnDisk;

/// <summary>One header extension as stored: an unknown one is kept byte for byte.</summary>
/// <param name="Type">See <see cref="HeaderExtensionType"/>.</param>
/// <param name="Data">The content without padding.</param>
public sealed record HeaderExtension(uint Type, ReadOnlyMemory<byte> Data)
{
    /// <summary>Bytes before the content: u32 type, u32 length.</summary>
    public const int PrefixSize = 8;

    /// <summary>Bytes in the file: prefix, content and padding to a multiple of 8.</summary>
    public int StoredLength => PrefixSize + ((Data.Length + 7) & ~7);

    /// <summary>Encodes the extension at the start of <paramref name="target"/> (zeroed, at least <see cref="StoredLength"/> bytes).</summary>
    public void Write(Span<byte> target)
    {
        BinaryPrimitives.WriteUInt32BigEndian(target, Type);
        BinaryPrimitives.WriteUInt32BigEndian(target[4..], (uint)Data.Length);
        Data.Span.CopyTo(target[PrefixSize..]);
    }
}

/// <summary>Extension types that the specification names.</summary>
public static class HeaderExtensionType
{
    public const uint End = 0;
    public const uint BackingFormat = 0xe2792aca;
    public const uint FeatureNameTable = 0x6803f857;
    public const uint Bitmaps = 0x23852875;
    public const uint CryptoHeader = 0x0537be77;
    public const uint DataFileName = 0x44415441;
}
