using System.Buffers.Binary;
using BlockMount.Storage;

namespace BlockMount.Formats.Qcow2.Check;

/// <summary>
/// Where an image's structures lie, read for the check alone and without trust in what the driver holds (qcow2 specification, "Header",
/// "Header extensions"). Offsets and lengths are in bytes.
/// </summary>
internal sealed class CheckedLayout
{
    private const ulong DataFileBit = 1 << 2;
    private const ulong ExtendedL2Bit = 1 << 4;
    private const ulong BitmapsBit = 1;
    private const uint EndExtension = 0;
    private const uint BitmapsExtension = 0x23852875;
    private const uint EncryptionExtension = 0x0537be77;

    internal int Version { get; private init; }

    internal int ClusterBits { get; private init; }

    internal int ClusterSize => 1 << ClusterBits;

    internal long VirtualSize { get; private init; }

    internal long FileLength { get; private init; }

    internal long L1Offset { get; private init; }

    internal int L1Entries { get; private init; }

    internal long RefcountTableOffset { get; private init; }

    internal long RefcountTableClusters { get; private init; }

    internal int RefcountOrder { get; private init; }

    internal int SnapshotCount { get; private init; }

    internal long SnapshotsOffset { get; private init; }

    internal ulong IncompatibleFeatures { get; private init; }

    /// <summary>Guest data lives in another file, whose clusters are not counted.</summary>
    internal bool HasDataFile => (IncompatibleFeatures & DataFileBit) != 0;

    internal int L2EntrySize => (IncompatibleFeatures & ExtendedL2Bit) != 0 ? 16 : 8;

    internal int L2Entries => ClusterSize / L2EntrySize;

    internal int BitmapCount { get; private set; }

    internal long BitmapDirectoryOffset { get; private set; }

    internal long BitmapDirectoryLength { get; private set; }

    internal long EncryptionOffset { get; private set; }

    internal long EncryptionLength { get; private set; }

    /// <exception cref="ImageFormatException">The header is not one of qcow2, or its sizes cannot be walked.</exception>
    internal static async ValueTask<CheckedLayout> ReadAsync(StorageFile file)
    {
        byte[] header = new byte[104];
        await file.ReadAsync(0, header);
        CheckedLayout layout = Parse(file, header);
        uint headerLength = layout.Version == 2 ? 72 : BinaryPrimitives.ReadUInt32BigEndian(header.AsSpan(100));
        bool bitmapsValid = (BinaryPrimitives.ReadUInt64BigEndian(header.AsSpan(88)) & BitmapsBit) != 0;
        await layout.ReadExtensionsAsync(file, headerLength, layout.Version > 2 && bitmapsValid);
        return layout;
    }

    private static CheckedLayout Parse(StorageFile file, ReadOnlySpan<byte> header)
    {
        if (BinaryPrimitives.ReadUInt32BigEndian(header) != OnDisk.Qcow2Header.Magic)
        {
            throw new ImageFormatException($"'{file.Name}' is not a qcow2 image: its first four bytes are not \"QFI\\xfb\"");
        }

        uint version = Bounded(file, header[4..], "version", 2, 3);
        uint clusterBits = Bounded(file, header[20..], "cluster_bits", 9, 21);
        return new CheckedLayout
        {
            Version = (int)version,
            ClusterBits = (int)clusterBits,
            FileLength = file.Length,
            VirtualSize = checked((long)(BinaryPrimitives.ReadUInt64BigEndian(header[24..]) & long.MaxValue)),
            L1Entries = (int)Bounded(file, header[36..], "l1_size", 0, (32 << 20) / 8),
            L1Offset = Offset(header[40..]),
            RefcountTableOffset = Offset(header[48..]),
            RefcountTableClusters = Bounded(file, header[56..], "refcount_table_clusters", 1, (8u << 20) >> (int)clusterBits),
            SnapshotCount = (int)Bounded(file, header[60..], "nb_snapshots", 0, 65536),
            SnapshotsOffset = Offset(header[64..]),
            IncompatibleFeatures = version == 2 ? 0 : BinaryPrimitives.ReadUInt64BigEndian(header[72..]),
            RefcountOrder = version == 2 ? 4 : (int)Bounded(file, header[96..], "refcount_order", 0, 6),
        };
    }

    // The sign bit of an offset makes it lie outside every file, which the walk reports; it must not wrap.
    private static long Offset(ReadOnlySpan<byte> field) => (long)(BinaryPrimitives.ReadUInt64BigEndian(field) & long.MaxValue);

    private static uint Bounded(StorageFile file, ReadOnlySpan<byte> field, string name, uint least, uint most)
    {
        uint value = BinaryPrimitives.ReadUInt32BigEndian(field);
        if (value < least || value > most)
        {
            throw new ImageFormatException($"'{file.Name}' cannot be checked: {name} is {value}, allowed are {least} to {most}");
        }

        return value;
    }

    private async ValueTask ReadExtensionsAsync(StorageFile file, long offset, bool bitmapsValid)
    {
        byte[] extension = new byte[8 + 24];
        while (offset + 8 <= ClusterSize)
        {
            await file.ReadAsync(offset, extension);
            uint type = BinaryPrimitives.ReadUInt32BigEndian(extension);
            uint length = BinaryPrimitives.ReadUInt32BigEndian(extension.AsSpan(4));
            ReadOnlySpan<byte> data = extension.AsSpan(8);
            if (type == EndExtension)
            {
                return;
            }

            if (type == BitmapsExtension && length >= 24 && bitmapsValid)
            {
                BitmapCount = (int)Math.Min(BinaryPrimitives.ReadUInt32BigEndian(data), 65535);
                BitmapDirectoryLength = Offset(data[8..]);
                BitmapDirectoryOffset = Offset(data[16..]);
            }
            else if (type == EncryptionExtension && length >= 16)
            {
                EncryptionOffset = Offset(data);
                EncryptionLength = Offset(data[8..]);
            }

            offset += 8 + ((length + 7L) & ~7L);
        }
    }
}
