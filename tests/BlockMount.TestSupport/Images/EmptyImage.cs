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
    private const ulong ExtendedL2Bit = 1 << 4;
    private const int ClustersBeforeL1 = 3;

    /// <summary>The image. One refcount block must be able to count its clusters, which holds for small disks.</summary>
    /// <param name="backingName">Stored in the header; null for none.</param>
    public static byte[] Create(ImageGeometry geometry, string? backingName = null, string? backingFormat = null)
    {
        int clusterSize = geometry.ClusterSize;
        long coverage = (long)clusterSize * (clusterSize / geometry.L2EntrySize);
        int l1Entries = (int)((geometry.Size + coverage - 1) / coverage);
        int clusters = ClustersBeforeL1 + Math.Max(1, ((l1Entries * 8) + clusterSize - 1) / clusterSize);
        Debug.Assert(clusters <= (clusterSize * 8) >> geometry.RefcountOrder);
        byte[] image = new byte[clusters * clusterSize];
        WriteHeader(image, geometry, l1Entries, backingName, backingFormat);
        BinaryPrimitives.WriteInt64BigEndian(image.AsSpan(clusterSize), 2L * clusterSize);
        for (int cluster = 0; cluster < clusters; cluster++)
        {
            SetRefcountToOne(image.AsSpan(2 * clusterSize, clusterSize), cluster, geometry.RefcountOrder);
        }

        return image;
    }

    private static void WriteHeader(Span<byte> image, ImageGeometry geometry, int l1Entries, string? backingName, string? backingFormat)
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
            BinaryPrimitives.WriteUInt64BigEndian(image[72..], geometry.ExtendedL2 ? ExtendedL2Bit : 0);
            BinaryPrimitives.WriteInt32BigEndian(image[96..], geometry.RefcountOrder);
            BinaryPrimitives.WriteInt32BigEndian(image[100..], headerLength);
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
