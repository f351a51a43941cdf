using System.Buffers.Binary;
using System.Text;
using BlockMount.Base.Buffers;
using BlockMount.Storage;

namespace BlockMount.Formats.Qcow2.OnDisk;

/// <summary>
/// Decodes headers. Foreign bytes end here: what is returned has passed <see cref="Qcow2HeaderValidator"/>, and no length or
/// count from the file is used before it is bounded.
/// </summary>
public static class Qcow2HeaderReader
{
    private static readonly UTF8Encoding s_strictUtf8 = new(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: true);

    /// <summary>Reads and validates the header of <paramref name="file"/>. Reads at most the first cluster.</summary>
    /// <exception cref="ImageFormatException">Not a qcow2 image, or damaged: names the field, its value and the limit.</exception>
    /// <exception cref="Base.BlockIOException">The file cannot be read.</exception>
    public static async ValueTask<Qcow2Header> LoadAsync(StorageFile file)
    {
        long fileLength = file.Length;
        int prefix = (int)Math.Min(fileLength, 512);
        byte[] start = new byte[512];
        if (prefix > 0)
        {
            await file.ReadAsync(0, start.AsMemory(0, prefix));
        }

        int needed = (int)Math.Min(fileLength, FirstClusterLength(start.AsSpan(0, prefix), file.Name));
        if (needed <= prefix)
        {
            return Parse(start.AsSpan(0, prefix), fileLength, file.Name);
        }

        AlignedBuffer cluster = AlignedBufferPool.Shared.Rent(needed);
        try
        {
            await file.ReadAsync(0, cluster.Memory[..needed]);
            return Parse(cluster.GetSpan()[..needed], fileLength, file.Name);
        }
        finally
        {
            AlignedBufferPool.Shared.Return(cluster);
        }
    }

    /// <summary>True if <paramref name="start"/> begins as a qcow2 image of any version does.</summary>
    public static bool HasMagic(ReadOnlySpan<byte> start) =>
        start.Length >= 4 && BinaryPrimitives.ReadUInt32BigEndian(start) == Qcow2Header.Magic;

    /// <summary>
    /// Decodes and validates. <paramref name="start"/> is the file's first cluster, or the whole file where that is shorter
    /// (more does no harm); the result keeps no reference to it. <paramref name="name"/> is for messages.
    /// </summary>
    /// <exception cref="ImageFormatException">Not a qcow2 image, or damaged: names the field, its value and the limit.</exception>
    public static Qcow2Header Parse(ReadOnlySpan<byte> start, long fileLength, string name)
    {
        int clusterSize = FirstClusterLength(start, name);
        ReadOnlySpan<byte> cluster = start[..Math.Min(start.Length, clusterSize)];
        RawHeader raw = RawHeader.Read(cluster);
        Qcow2HeaderValidator.CheckHeaderLength(raw, clusterSize, cluster.Length, name);
        Qcow2HeaderValidator.CheckFields(raw, fileLength, name);

        string? backingName = ReadBackingName(cluster, raw, name);
        int extensionsEnd = raw.BackingFileOffset == 0 ? clusterSize : (int)raw.BackingFileOffset;
        List<HeaderExtension> extensions = ReadExtensions(cluster, (int)raw.HeaderLength, extensionsEnd, name);
        string? backingFormat = TakeBackingFormat(extensions, name);
        if (extensions.Find(extension => extension.Type == HeaderExtensionType.DataFileName) is { } dataFile)
        {
            DecodeName(dataFile.Data.Span, "data file name", name);
        }

        return raw.ToHeader() with
        {
            Backing = backingName is null ? null : new BackingReference(backingName, backingFormat),
            UnknownHeaderBytes = raw.HeaderLength > Qcow2HeaderFields.KnownLength
                ? cluster[Qcow2HeaderFields.KnownLength..(int)raw.HeaderLength].ToArray()
                : default(ReadOnlyMemory<byte>),
            Extensions = extensions,
        };
    }

    // The fields that say how to read the rest: magic, version, cluster size.
    private static int FirstClusterLength(ReadOnlySpan<byte> start, string name)
    {
        if (!HasMagic(start))
        {
            throw new ImageFormatException(
                $"Could not open '{name}': Image is not in qcow2 format",
                "If it is a raw image, say so with '-f raw'");
        }

        if (start.Length < Qcow2HeaderFields.Version2Length)
        {
            throw Qcow2HeaderValidator.Truncated(name, start.Length, Qcow2HeaderFields.Version2Length);
        }

        uint version = BinaryPrimitives.ReadUInt32BigEndian(start[Qcow2HeaderFields.Version..]);
        if (version is not (2 or 3))
        {
            throw Qcow2HeaderValidator.Refuse(name, $"Unsupported qcow2 version {version} (versions 2 and 3 are supported)");
        }

        uint clusterBits = BinaryPrimitives.ReadUInt32BigEndian(start[Qcow2HeaderFields.ClusterBits..]);
        if (clusterBits is < Qcow2Limits.ClusterBitsMin or > Qcow2Limits.ClusterBitsMax)
        {
            throw Qcow2HeaderValidator.Refuse(
                name,
                $"cluster_bits is {clusterBits}, outside {Qcow2Limits.ClusterBitsMin} to {Qcow2Limits.ClusterBitsMax} (clusters of 512 bytes to 2 MiB)");
        }

        return 1 << (int)clusterBits;
    }

    private static string? ReadBackingName(ReadOnlySpan<byte> cluster, in RawHeader raw, string name)
    {
        if (raw.BackingFileOffset == 0)
        {
            return null;
        }

        Qcow2HeaderValidator.CheckBackingName(raw, cluster.Length, name);
        ReadOnlySpan<byte> stored = cluster.Slice((int)raw.BackingFileOffset, (int)raw.BackingFileSize);
        return stored.IsEmpty ? null : DecodeName(stored, "backing file name", name);
    }

    // A NUL inside would make C programs see another name than we do: nobody could say which one was checked.
    private static string DecodeName(ReadOnlySpan<byte> stored, string field, string name)
    {
        if (stored.Contains((byte)0))
        {
            throw Qcow2HeaderValidator.Refuse(name, $"the {field} contains a NUL byte");
        }

        try
        {
            return s_strictUtf8.GetString(stored);
        }
        catch (DecoderFallbackException e)
        {
            throw new ImageFormatException($"Could not open '{name}': the {field} is not valid UTF-8", innerException: e);
        }
    }

    private static List<HeaderExtension> ReadExtensions(ReadOnlySpan<byte> cluster, int start, int end, string name)
    {
        var extensions = new List<HeaderExtension>();
        int limit = Math.Min(end, cluster.Length);
        // Fewer than 8 bytes before the end cannot hold another extension: the area ends without a marker.
        for (int position = start; limit - position >= HeaderExtension.PrefixSize;)
        {
            uint type = BinaryPrimitives.ReadUInt32BigEndian(cluster[position..]);
            uint length = BinaryPrimitives.ReadUInt32BigEndian(cluster[(position + 4)..]);
            if (type == HeaderExtensionType.End)
            {
                break;
            }

            position += HeaderExtension.PrefixSize;
            if (length > (uint)(limit - position))
            {
                throw Qcow2HeaderValidator.Refuse(
                    name, $"header extension 0x{type:x8} at {position - HeaderExtension.PrefixSize} is {length} bytes long, {limit - position} are left in the header");
            }

            if (extensions.Count == Qcow2Limits.ExtensionCountMax)
            {
                throw Qcow2HeaderValidator.Refuse(name, $"more than {Qcow2Limits.ExtensionCountMax} header extensions");
            }

            extensions.Add(new HeaderExtension(type, cluster.Slice(position, (int)length).ToArray()));
            position += ((int)length + 7) & ~7;
        }

        return extensions;
    }

    private static string? TakeBackingFormat(List<HeaderExtension> extensions, string name)
    {
        int index = extensions.FindIndex(extension => extension.Type == HeaderExtensionType.BackingFormat);
        if (index < 0)
        {
            return null;
        }

        ReadOnlySpan<byte> stored = extensions[index].Data.Span;
        if (stored.Length > Qcow2Limits.BackingFormatBytesMax)
        {
            throw Qcow2HeaderValidator.Refuse(
                name, $"the backing format extension is {stored.Length} bytes long, more than {Qcow2Limits.BackingFormatBytesMax}");
        }

        string format = DecodeName(stored, "backing format", name);
        extensions.RemoveAll(extension => extension.Type == HeaderExtensionType.BackingFormat);
        return format.Length == 0 ? null : format;
    }
}
