using System.Buffers.Binary;
using BlockMount.Formats.Qcow2.OnDisk;
using BlockMount.Storage;

namespace BlockMount.Formats.Qcow2.Bitmaps;

/// <summary>
/// The list of persistent bitmaps as an image stores it. Damage never throws: a directory that cannot be read has a <see cref="Problem"/> and no
/// bitmaps, an entry that cannot be used has a <see cref="StoredBitmap.Defect"/>. Immutable.
/// </summary>
public sealed class BitmapDirectory
{
    /// <summary>An image without bitmaps.</summary>
    public static BitmapDirectory Empty { get; } = new([], 0, 0, null);

    private BitmapDirectory(IReadOnlyList<StoredBitmap> bitmaps, long offset, int length, string? problem)
    {
        Bitmaps = bitmaps;
        Offset = offset;
        Length = length;
        Problem = problem;
    }

    /// <summary>In the order of the directory.</summary>
    public IReadOnlyList<StoredBitmap> Bitmaps { get; }

    /// <summary>Host offset in bytes; 0 if there is none.</summary>
    public long Offset { get; }

    /// <summary>Bytes of the directory.</summary>
    public int Length { get; }

    /// <summary>Why the image's bitmaps are all to be considered lost; null if nothing is wrong.</summary>
    public string? Problem { get; }

    /// <summary>Reads the directory: at most 64 MiB, and memory in proportion to it.</summary>
    /// <exception cref="Base.BlockIOException">The file cannot be read.</exception>
    public static async ValueTask<BitmapDirectory> LoadAsync(StorageFile file, Qcow2Header header)
    {
        if (header.FindExtension(HeaderExtensionType.Bitmaps) is not { } extension)
        {
            return Empty;
        }

        if (header.Version < 3 || (header.AutoclearFeatures & FeatureBits.Bitmaps) == 0)
        {
            return Lost("a program without support for bitmaps changed the image");
        }

        if (!BitmapsExtension.TryRead(extension.Data.Span, out BitmapsExtension place))
        {
            return Lost($"the bitmaps extension has {extension.Data.Length} bytes instead of {BitmapsExtension.Size}");
        }

        if (FindProblem(place, header, file.Length) is { } problem)
        {
            return Lost(problem);
        }

        byte[] bytes = new byte[(int)place.DirectorySize];
        await file.ReadAsync((long)place.DirectoryOffset, bytes);
        return Parse(bytes, place, header, file.Length);
    }

    /// <summary>The bytes of a directory with these entries.</summary>
    internal static byte[] Encode(IReadOnlyList<StoredBitmap> bitmaps)
    {
        byte[] bytes = new byte[bitmaps.Sum(bitmap => (long)bitmap.StoredLength)];
        int position = 0;
        foreach (StoredBitmap bitmap in bitmaps)
        {
            bitmap.Write(bytes.AsSpan(position));
            position += bitmap.StoredLength;
        }

        return bytes;
    }

    /// <summary>A directory that cannot be used, and why.</summary>
    internal static BitmapDirectory Lost(string problem) => new([], 0, 0, problem);

    private static BitmapDirectory Parse(byte[] bytes, BitmapsExtension place, Qcow2Header header, long fileLength)
    {
        var bitmaps = new List<StoredBitmap>((int)place.Count);
        var names = new HashSet<ReadOnlyMemory<byte>>(NameComparer.Instance);
        int position = 0;
        while (position < bytes.Length)
        {
            if (bitmaps.Count == place.Count)
            {
                return Lost($"the bitmap directory has more entries than nb_bitmaps, which is {place.Count}");
            }

            if (EntryLength(bytes.AsSpan(position)) is not { } length)
            {
                return Lost($"bitmap {bitmaps.Count} lies past the end of the directory");
            }

            StoredBitmap bitmap = StoredBitmap.Read(bytes.AsMemory(position, length));
            string? defect = bitmap.FindDefect(header.ClusterSize, header.Size, fileLength);
            bitmaps.Add(bitmap with { Defect = names.Add(bitmap.NameBytes) ? defect : "another bitmap has the same name" });
            position += length;
        }

        return bitmaps.Count == place.Count
            ? new BitmapDirectory(bitmaps, (long)place.DirectoryOffset, bytes.Length, null)
            : Lost($"the bitmap directory has {bitmaps.Count} entries, nb_bitmaps is {place.Count}");
    }

    // With padding; null if the entry does not lie inside.
    private static int? EntryLength(ReadOnlySpan<byte> rest)
    {
        if (rest.Length < Qcow2Limits.BitmapEntryBytesMin)
        {
            return null;
        }

        long length = (long)Qcow2Limits.BitmapEntryBytesMin
            + BinaryPrimitives.ReadUInt32BigEndian(rest[StoredBitmap.ExtraSizeOffset..])
            + BinaryPrimitives.ReadUInt16BigEndian(rest[StoredBitmap.NameSizeOffset..]);
        length = (length + 7) & ~7L;
        return length <= rest.Length ? (int)length : null;
    }

    private static string? FindProblem(BitmapsExtension place, Qcow2Header header, long fileLength)
    {
        if (place.Count is 0 or > Qcow2Limits.BitmapCountMax)
        {
            return $"nb_bitmaps is {place.Count}, outside 1 to {Qcow2Limits.BitmapCountMax}";
        }

        if (place.DirectorySize is 0 or > Qcow2Limits.BitmapDirectoryBytesMax)
        {
            return $"bitmap_directory_size is {place.DirectorySize}, outside 1 to {Qcow2Limits.BitmapDirectoryBytesMax}";
        }

        if (place.DirectorySize < place.Count * (ulong)Qcow2Limits.BitmapEntryBytesMin)
        {
            return $"bitmap_directory_size is {place.DirectorySize}, too small for {place.Count} bitmaps";
        }

        if (place.DirectoryOffset % (ulong)header.ClusterSize != 0 || place.DirectoryOffset < (ulong)header.ClusterSize)
        {
            return $"bitmap_directory_offset is {place.DirectoryOffset}, no cluster behind the header";
        }

        if (place.DirectoryOffset > (ulong)fileLength || place.DirectorySize > (ulong)fileLength - place.DirectoryOffset)
        {
            return $"the bitmap directory at {place.DirectoryOffset} with {place.DirectorySize} bytes ends past the end of the file ({fileLength} bytes)";
        }

        return KnownStructures.FindOverlap(header, (long)place.DirectoryOffset, (long)place.DirectorySize) is { } other
            ? $"the bitmap directory at {place.DirectoryOffset} overlaps {other}"
            : null;
    }

    private sealed class NameComparer : IEqualityComparer<ReadOnlyMemory<byte>>
    {
        internal static NameComparer Instance { get; } = new();

        public bool Equals(ReadOnlyMemory<byte> x, ReadOnlyMemory<byte> y) => x.Span.SequenceEqual(y.Span);

        public int GetHashCode(ReadOnlyMemory<byte> name)
        {
            HashCode hash = default;
            hash.AddBytes(name.Span);
            return hash.ToHashCode();
        }
    }
}
