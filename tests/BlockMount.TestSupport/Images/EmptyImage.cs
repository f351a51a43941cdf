using System.Buffers.Binary;
using System.Diagnostics;
using System.Text;

namespace BlockMount.TestSupport.Images;

/// <summary>
/// Writes the bytes of an empty qcow2 image, independently of the code under test: header, refcount table, one refcount block and the L1 table
/// (qcow2 specification, "Header").
/// </summary>
public static class EmptyImage
{
    private const uint Magic = 0x514649fb;
    private const uint BackingFormatExtension = 0xe2792aca;
    private const uint DataFileNameExtension = 0x44415441;
    private const ulong DataFileBit = 1 << 2;
    private const ulong ExtendedL2Bit = 1 << 4;
    private const ulong RawDataFileBit = 1 << 1;
    private const ulong CopiedBit = 1UL << 63;
    private const int ClustersBeforeL1 = 3;

    /// <summary>The name of the data file in the header.</summary>
    public const string DataFileName = "data";

    /// <summary>The image. One refcount block must be able to count its clusters, which holds for small disks.</summary>
    /// <param name="backingName">Stored in the header; null for none.</param>
    /// <param name="dataFileName">Stored in the header if the geometry has a data file.</param>
    public static byte[] Create(
        ImageGeometry geometry, string? backingName = null, string? backingFormat = null, string dataFileName = DataFileName)
    {
        int clusterSize = geometry.ClusterSize;
        long coverage = (long)clusterSize * (clusterSize / geometry.L2EntrySize);
        int l1Entries = (int)((geometry.Size + coverage - 1) / coverage);
        int l2Start = ClustersBeforeL1 + Math.Max(1, ((l1Entries * 8) + clusterSize - 1) / clusterSize);
        // A raw data file is allocated whole.
        int clusters = l2Start + (geometry.DataFile == DataFileKind.Raw ? l1Entries : 0);
        Debug.Assert(clusters <= (clusterSize * 8) >> geometry.RefcountOrder);
        byte[] image = new byte[clusters * clusterSize];
        WriteHeader(image, geometry, l1Entries, backingName, backingFormat, dataFileName);
        BinaryPrimitives.WriteInt64BigEndian(image.AsSpan(clusterSize), 2L * clusterSize);
        for (int cluster = 0; cluster < clusters; cluster++)
        {
            SetRefcountToOne(image.AsSpan(2 * clusterSize, clusterSize), cluster, geometry.RefcountOrder);
        }

        for (int table = 0; table < clusters - l2Start; table++)
        {
            BinaryPrimitives.WriteUInt64BigEndian(image.AsSpan((ClustersBeforeL1 * clusterSize) + (table * 8)), ((ulong)(l2Start + table) * (ulong)clusterSize) | CopiedBit);
        }

        for (int cluster = 0; clusters > l2Start && cluster < (geometry.Size + clusterSize - 1) / clusterSize; cluster++)
        {
            Span<byte> entry = image.AsSpan((l2Start * clusterSize) + (cluster * geometry.L2EntrySize), geometry.L2EntrySize);
            BinaryPrimitives.WriteUInt64BigEndian(entry, ((ulong)cluster * (ulong)clusterSize) | CopiedBit);
            if (geometry.ExtendedL2)
            {
                BinaryPrimitives.WriteUInt64BigEndian(entry[8..], uint.MaxValue);
            }
        }

        return image;
    }

    private static void WriteHeader(Span<byte> image, ImageGeometry geometry, int l1Entries, string? backingName, string? backingFormat, string dataFileName)
    {
        int headerLength = geometry.Version == 2 ? 72 : 104;
        BinaryPrimitives.WriteUInt32BigEndian(image, Magic);
        BinaryPrimitives.WriteInt32BigEndian(image[4..], geometry.Version);
        BinaryPrimitives.WriteInt32BigEndian(image[20..], geometry.ClusterBits);
        BinaryPrimitives.WriteInt64BigEndian(image[24..], geometry.Size);
        BinaryPrimitives.WriteInt32BigEndian(image[36..], l1Entries);
        BinaryPrimitives.WriteInt64BigEndian(image[40..], (long)ClustersBeforeL1 * geometry.ClusterSize);
        BinaryPrimitives.WriteInt64BigEndian(image[48..], geometry.ClusterSize);
        BinaryPrimitives.WriteInt32BigEndian(image[56..], 1);
        if (geometry.Version > 2)
        {
            BinaryPrimitives.WriteUInt64BigEndian(image[72..], Features(geometry));
            BinaryPrimitives.WriteUInt64BigEndian(image[88..], geometry.DataFile == DataFileKind.Raw ? RawDataFileBit : 0);
            BinaryPrimitives.WriteInt32BigEndian(image[96..], geometry.RefcountOrder);
            BinaryPrimitives.WriteInt32BigEndian(image[100..], headerLength);
        }

        if (geometry.DataFile != DataFileKind.None)
        {
            BinaryPrimitives.WriteUInt32BigEndian(image[headerLength..], DataFileNameExtension);
            int length = Encoding.UTF8.GetBytes(dataFileName, image[(headerLength + 8)..]);
            BinaryPrimitives.WriteInt32BigEndian(image[(headerLength + 4)..], length);
            headerLength += 8 + ((length + 7) & ~7);
        }

        if (backingName is not null)
        {
            Span<byte> extension = image[headerLength..];
            BinaryPrimitives.WriteUInt32BigEndian(extension, BackingFormatExtension);
            int formatLength = Encoding.ASCII.GetBytes(backingFormat!, extension[8..]);
            BinaryPrimitives.WriteInt32BigEndian(extension[4..], formatLength);
            // The end extension (zeros) lies between the padded format and the name.
            int nameOffset = headerLength + 8 + ((formatLength + 7) & ~7) + 8;
            int nameLength = Encoding.UTF8.GetBytes(backingName, image[nameOffset..]);
            BinaryPrimitives.WriteInt64BigEndian(image[8..], nameOffset);
            BinaryPrimitives.WriteInt32BigEndian(image[16..], nameLength);
        }
    }

    private static ulong Features(ImageGeometry geometry) =>
        (geometry.ExtendedL2 ? ExtendedL2Bit : 0) | (geometry.DataFile != DataFileKind.None ? DataFileBit : 0);

    private static void SetRefcountToOne(Span<byte> block, int index, int order)
    {
        if (order < 3)
        {
            int bit = index << order;
            block[bit >> 3] |= (byte)(1 << (bit & 7));
        }
        else
        {
            // Big-endian: the last byte of the entry.
            int bytes = 1 << (order - 3);
            block[(index * bytes) + bytes - 1] = 1;
        }
    }
}
