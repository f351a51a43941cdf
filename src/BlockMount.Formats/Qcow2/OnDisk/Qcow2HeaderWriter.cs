using System.Buffers.Binary;
using System.Diagnostics;
using System.Text;

namespace BlockMount.Formats.Qcow2.OnDisk;

/// <summary>
/// Encodes a whole header: fixed fields, extensions, backing file name. Single fields of an open image are changed in place
/// (<see cref="Qcow2HeaderFields"/>); this is for new images and, through <see cref="HeaderRewritePlan"/>, for what changes the length of
/// something.
/// </summary>
public static class Qcow2HeaderWriter
{
    private const int SectorSize = 512;

    /// <summary>
    /// The header's bytes, at most one cluster, to be written at offset 0. Reading them gives <paramref name="header"/> again,
    /// except that a version 3 header is at least 112 bytes long, and that the feature name table, which only serves
    /// messages, is left out where it alone does not fit.
    /// </summary>
    /// <exception cref="ImageFormatException">The header does not fit into the first cluster.</exception>
    public static byte[] Write(Qcow2Header header)
    {
        byte[] name = EncodeName(header);
        int fixedLength = FixedLength(header);
        IReadOnlyList<HeaderExtension> extensions = ExtensionsToWrite(header);
        if (TotalLength(fixedLength, extensions, name) > header.ClusterSize)
        {
            extensions = WithoutNameTable(extensions);
        }

        int total = TotalLength(fixedLength, extensions, name);
        if (total > header.ClusterSize)
        {
            throw new ImageFormatException(
                $"The header needs {total} bytes and does not fit into the first cluster of {header.ClusterSize} bytes",
                name.Length > 0 ? "Use a shorter backing file name or larger clusters" : "Use larger clusters");
        }

        byte[] bytes = new byte[total];
        WriteFixed(bytes, header, fixedLength);
        int position = WriteExtensions(bytes, fixedLength, extensions);
        WriteBackingName(bytes, bytes, position, name);
        return bytes;
    }

    /// <summary>
    /// The same header in another place: only the first 512 bytes and what lies from <paramref name="farStart"/> (a multiple of 8, not less
    /// than 512) on are part of it. What does not fit into the first sector follows there, and a feature name table without names leads over the
    /// gap. The true name table, which only serves messages, is left out.
    /// </summary>
    /// <returns>The first sector, and the bytes for <paramref name="farStart"/> (may be none).</returns>
    internal static (byte[] FirstSector, byte[] Far) WriteAroundGap(Qcow2Header header, int farStart)
    {
        byte[] name = EncodeName(header);
        int position = FixedLength(header);
        byte[] first = new byte[SectorSize];
        WriteFixed(first, header, position);
        IReadOnlyList<HeaderExtension> rest = WithoutNameTable(ExtensionsToWrite(header));
        // The space for a prefix, either the end marker's or that of the gap, is always kept.
        while (rest.Count > 0 && position + rest[0].StoredLength + HeaderExtension.PrefixSize <= SectorSize)
        {
            rest[0].Write(first.AsSpan(position));
            position += rest[0].StoredLength;
            rest = [.. rest.Skip(1)];
        }

        if (rest.Count == 0)
        {
            WriteBackingName(first, [], farStart, name);
            return (first, name);
        }

        U32(first, position, HeaderExtensionType.FeatureNameTable);
        U32(first, position + sizeof(uint), (uint)(farStart - position - HeaderExtension.PrefixSize));
        byte[] far = new byte[TotalLength(0, rest, name)];
        int nameStart = WriteExtensions(far, 0, rest);
        WriteBackingName(first, [], farStart + nameStart, name);
        name.CopyTo(far.AsSpan(nameStart));
        return (first, far);
    }

    private static byte[] EncodeName(Qcow2Header header)
    {
        byte[] name = header.Backing is { } backing ? Encoding.UTF8.GetBytes(backing.FileName) : [];
        return name.Length <= Qcow2Limits.BackingFileNameBytesMax
            ? name
            : throw new ImageFormatException(
                $"Backing file name too long: {name.Length} bytes, at most {Qcow2Limits.BackingFileNameBytesMax} can be stored",
                "Use a shorter or a relative path");
    }

    private static IReadOnlyList<HeaderExtension> WithoutNameTable(IReadOnlyList<HeaderExtension> extensions) =>
        [.. extensions.Where(extension => extension.Type != HeaderExtensionType.FeatureNameTable)];

    private static int FixedLength(Qcow2Header header) => header.Version == 2
        ? Qcow2HeaderFields.Version2Length
        : Qcow2HeaderFields.KnownLength + ((header.UnknownHeaderBytes.Length + 7) & ~7);

    private static List<HeaderExtension> ExtensionsToWrite(Qcow2Header header)
    {
        var extensions = new List<HeaderExtension>(header.Extensions.Count + 1);
        if (header.Backing?.Format is { } format)
        {
            byte[] bytes = Encoding.ASCII.GetBytes(format);
            if (bytes.Length > Qcow2Limits.BackingFormatBytesMax)
            {
                throw new ImageFormatException($"Backing format '{format}' too long: at most {Qcow2Limits.BackingFormatBytesMax} bytes can be stored");
            }

            extensions.Add(new HeaderExtension(HeaderExtensionType.BackingFormat, bytes));
        }

        extensions.AddRange(header.Extensions);
        return extensions;
    }

    private static int TotalLength(int fixedLength, IReadOnlyList<HeaderExtension> extensions, byte[] name)
    {
        int length = fixedLength + HeaderExtension.PrefixSize + name.Length;
        foreach (HeaderExtension extension in extensions)
        {
            length += extension.StoredLength;
        }

        return length;
    }

    private static void WriteFixed(Span<byte> bytes, Qcow2Header header, int fixedLength)
    {
        Debug.Assert(header.Version is 2 or 3);
        U32(bytes, Qcow2HeaderFields.Magic, Qcow2Header.Magic);
        U32(bytes, Qcow2HeaderFields.Version, (uint)header.Version);
        U32(bytes, Qcow2HeaderFields.ClusterBits, (uint)header.ClusterBits);
        U64(bytes, Qcow2HeaderFields.Size, (ulong)header.Size);
        U32(bytes, Qcow2HeaderFields.CryptMethod, (uint)header.CryptMethod);
        U32(bytes, Qcow2HeaderFields.L1Size, (uint)header.L1Size);
        U64(bytes, Qcow2HeaderFields.L1TableOffset, (ulong)header.L1TableOffset);
        U64(bytes, Qcow2HeaderFields.RefcountTableOffset, (ulong)header.RefcountTableOffset);
        U32(bytes, Qcow2HeaderFields.RefcountTableClusters, (uint)header.RefcountTableClusters);
        U32(bytes, Qcow2HeaderFields.SnapshotCount, (uint)header.SnapshotCount);
        U64(bytes, Qcow2HeaderFields.SnapshotsOffset, (ulong)header.SnapshotsOffset);
        if (header.Version == 2)
        {
            return;
        }

        U64(bytes, Qcow2HeaderFields.IncompatibleFeatures, header.IncompatibleFeatures);
        U64(bytes, Qcow2HeaderFields.CompatibleFeatures, header.CompatibleFeatures);
        U64(bytes, Qcow2HeaderFields.AutoclearFeatures, header.AutoclearFeatures);
        U32(bytes, Qcow2HeaderFields.RefcountOrder, (uint)header.RefcountOrder);
        U32(bytes, Qcow2HeaderFields.HeaderLength, (uint)fixedLength);
        bytes[Qcow2HeaderFields.CompressionType] = header.CompressionType;
        header.UnknownHeaderBytes.Span.CopyTo(bytes[Qcow2HeaderFields.KnownLength..]);
    }

    private static int WriteExtensions(Span<byte> bytes, int position, IReadOnlyList<HeaderExtension> extensions)
    {
        foreach (HeaderExtension extension in extensions)
        {
            extension.Write(bytes[position..]);
            position += extension.StoredLength;
        }

        // The end marker is eight zero bytes, which the new array has.
        return position + HeaderExtension.PrefixSize;
    }

    // The fields go into the first sector; the name itself, if there is room for it in target, to its position there.
    private static void WriteBackingName(Span<byte> firstSector, Span<byte> target, int position, ReadOnlySpan<byte> name)
    {
        if (name.IsEmpty)
        {
            return;
        }

        U64(firstSector, Qcow2HeaderFields.BackingFileOffset, (ulong)position);
        U32(firstSector, Qcow2HeaderFields.BackingFileSize, (uint)name.Length);
        if (!target.IsEmpty)
        {
            name.CopyTo(target[position..]);
        }
    }

    private static void U32(Span<byte> bytes, int offset, uint value) => BinaryPrimitives.WriteUInt32BigEndian(bytes[offset..], value);

    private static void U64(Span<byte> bytes, int offset, ulong value) => BinaryPrimitives.WriteUInt64BigEndian(bytes[offset..], value);
}
