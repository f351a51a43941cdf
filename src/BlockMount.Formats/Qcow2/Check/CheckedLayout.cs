using System.Buffers.Binary;
using BlockMount.Formats.Qcow2.OnDisk;
using BlockMount.Storage;

namespace BlockMount.Formats.Qcow2.Check;

/// <summary>
/// Where an image's structures lie, read for the check alone and without trust in what the driver holds (qcow2 specification, "Header",
/// "Header extensions"). Offsets and lengths are in bytes. More lenient than the driver, whose rules would refuse what is to be repaired: structures
/// may lie outside the file, the dirty and the corrupt bit may be set.
/// </summary>
internal sealed class CheckedLayout
{
    private const int HeaderBytes = 112;
    private const int BitmapExtensionBytes = 24;
    private const long BitmapDirectoryBytesMax = 64 << 20;

    /// <summary>An encryption header that claims more is not believed; LUKS needs some MiB.</summary>
    internal const long EncryptionBytesMax = 64 << 20;

    private uint _bitmapExtensionLength;

    internal int Version { get; private init; }

    internal int ClusterBits { get; private init; }

    internal int ClusterSize => 1 << ClusterBits;

    internal long VirtualSize { get; private init; }

    internal long FileLength { get; private init; }

    internal long L1Offset { get; private init; }

    internal int L1Entries { get; private init; }

    internal long RefcountTableOffset { get; private init; }

    internal long RefcountTableClusters { get; private init; }

    internal long RefcountTableBytes => RefcountTableClusters << ClusterBits;

    internal int RefcountOrder { get; private init; }

    internal int SnapshotCount { get; private init; }

    internal long SnapshotsOffset { get; private init; }

    internal ulong IncompatibleFeatures { get; private init; }

    internal ulong AutoclearFeatures { get; private init; }

    /// <summary>Guest data lives in another file, whose clusters are not counted.</summary>
    internal bool HasDataFile => (IncompatibleFeatures & FeatureBits.ExternalDataFile) != 0;

    internal bool HasSubclusters => (IncompatibleFeatures & FeatureBits.ExtendedL2) != 0;

    internal int L2EntrySize => HasSubclusters ? 16 : 8;

    internal int L2Entries => ClusterSize / L2EntrySize;

    /// <summary>Guest bytes that one L1 entry describes.</summary>
    internal long L1Coverage => (long)L2Entries << ClusterBits;

    /// <summary>Refcounts in one block.</summary>
    internal long RefcountBlockEntries => (ClusterSize * 8L) >> RefcountOrder;

    /// <summary>The largest refcount that the image's width can say.</summary>
    internal ulong RefcountMax => RefcountOrder == 6 ? ulong.MaxValue : (1UL << (1 << RefcountOrder)) - 1;

    /// <summary>Clusters of the file; the last one may be incomplete.</summary>
    internal long FileClusters => (FileLength + ClusterSize - 1) >> ClusterBits;

    internal int BitmapCount { get; private set; }

    internal long BitmapDirectoryOffset { get; private set; }

    internal long BitmapDirectoryLength { get; private set; }

    /// <summary>Host offset of the bitmaps extension's content in the header; 0 if there is none that counts.</summary>
    internal long BitmapExtensionPlace { get; private set; }

    internal long EncryptionOffset { get; private set; }

    internal long EncryptionLength { get; private set; }

    /// <summary>True if the range has a cluster or more behind the end of the file: the last cluster of a file may be incomplete.</summary>
    internal bool IsOutside(long offset, long length) =>
        offset < 0 || length > long.MaxValue - offset || offset + length - FileLength >= ClusterSize;

    /// <summary>True if <paramref name="offset"/> is a multiple of the cluster size.</summary>
    internal bool IsAligned(long offset) => (offset & (ClusterSize - 1)) == 0;

    /// <exception cref="ImageFormatException">The header is not one of qcow2, or has features that nobody here knows: there is nothing to check.</exception>
    internal static async ValueTask<CheckedLayout> ReadAsync(StorageFile file)
    {
        byte[] header = new byte[HeaderBytes];
        await file.ReadAsync(0, header);
        CheckedLayout layout = Parse(file, header);
        uint headerLength = layout.Version == 2 ? Qcow2HeaderFields.Version2Length : Bounded(file, header.AsSpan(Qcow2HeaderFields.HeaderLength), "header_length", Qcow2HeaderFields.Version3LengthMin, (uint)layout.ClusterSize);
        await layout.ReadExtensionsAsync(file, headerLength);
        return layout;
    }

    private static CheckedLayout Parse(StorageFile file, ReadOnlySpan<byte> header)
    {
        if (!Qcow2HeaderReader.HasMagic(header))
        {
            throw new ImageFormatException($"'{file.Name}' is not a qcow2 image: its first four bytes are not \"QFI\\xfb\"");
        }

        uint version = Bounded(file, header[Qcow2HeaderFields.Version..], "version", 2, 3);
        uint clusterBits = Bounded(file, header[Qcow2HeaderFields.ClusterBits..], "cluster_bits", Qcow2Limits.ClusterBitsMin, Qcow2Limits.ClusterBitsMax);
        CheckedLayout layout = new()
        {
            Version = (int)version,
            ClusterBits = (int)clusterBits,
            FileLength = file.Length,
            VirtualSize = Offset(header[Qcow2HeaderFields.Size..]) & ~511L,
            L1Entries = (int)Bounded(file, header[Qcow2HeaderFields.L1Size..], "l1_size", 0, Qcow2Limits.L1TableBytesMax / 8),
            L1Offset = Offset(header[Qcow2HeaderFields.L1TableOffset..]),
            RefcountTableOffset = Offset(header[Qcow2HeaderFields.RefcountTableOffset..]),
            RefcountTableClusters = Bounded(file, header[Qcow2HeaderFields.RefcountTableClusters..], "refcount_table_clusters", 0, (uint)Qcow2Limits.RefcountTableBytesMax >> (int)clusterBits),
            SnapshotCount = (int)Bounded(file, header[Qcow2HeaderFields.SnapshotCount..], "nb_snapshots", 0, Qcow2Limits.SnapshotCountMax),
            SnapshotsOffset = Offset(header[Qcow2HeaderFields.SnapshotsOffset..]),
            IncompatibleFeatures = version == 2 ? 0 : BinaryPrimitives.ReadUInt64BigEndian(header[Qcow2HeaderFields.IncompatibleFeatures..]),
            AutoclearFeatures = version == 2 ? 0 : BinaryPrimitives.ReadUInt64BigEndian(header[Qcow2HeaderFields.AutoclearFeatures..]),
            RefcountOrder = version == 2 ? 4 : (int)Bounded(file, header[Qcow2HeaderFields.RefcountOrder..], "refcount_order", 0, Qcow2Limits.RefcountOrderMax),
        };
        layout.CheckUsable(file);
        return layout;
    }

    // What makes every reader of the format refuse the file, so that a verdict on its clusters would mean nothing.
    private void CheckUsable(StorageFile file)
    {
        ulong unknown = IncompatibleFeatures & ~FeatureBits.IncompatibleKnown;
        if (unknown != 0)
        {
            throw new ImageFormatException($"'{file.Name}' cannot be checked: unknown incompatible feature bits 0x{unknown:x}", "It was written by a newer program: check it with that one");
        }

        if (HasSubclusters && ClusterBits < Qcow2Limits.ExtendedL2ClusterBitsMin)
        {
            throw new ImageFormatException($"'{file.Name}' cannot be checked: extended L2 entries need cluster_bits of {Qcow2Limits.ExtendedL2ClusterBitsMin} and more, it is {ClusterBits}");
        }

        CheckTable(file, "L1 table", L1Offset, L1Entries * 8L);
        CheckTable(file, "refcount table", RefcountTableOffset, RefcountTableBytes);
        CheckTable(file, "snapshot table", SnapshotsOffset, SnapshotCount * (long)Qcow2Limits.SnapshotEntryBytesMin);
        long needed = (VirtualSize / L1Coverage) + (VirtualSize % L1Coverage == 0 ? 0 : 1);
        if (needed > L1Entries)
        {
            throw new ImageFormatException($"'{file.Name}' cannot be checked: l1_size is {L1Entries}, the virtual size {VirtualSize} needs {needed}");
        }
    }

    private void CheckTable(StorageFile file, string table, long offset, long length)
    {
        if (length > 0 && (!IsAligned(offset) || offset > Qcow2Limits.HostOffsetEnd - length))
        {
            throw new ImageFormatException(
                $"'{file.Name}' cannot be checked: the {table} at {offset} with {length} bytes is not aligned to {ClusterSize} or ends past {Qcow2Limits.HostOffsetEnd}");
        }
    }

    // The sign bit of an offset makes it lie outside every file; it must not wrap.
    private static long Offset(ReadOnlySpan<byte> field) => (long)Math.Min(BinaryPrimitives.ReadUInt64BigEndian(field), long.MaxValue);

    private static uint Bounded(StorageFile file, ReadOnlySpan<byte> field, string name, uint least, uint most)
    {
        uint value = BinaryPrimitives.ReadUInt32BigEndian(field);
        if (value < least || value > most)
        {
            throw new ImageFormatException($"'{file.Name}' cannot be checked: {name} is {value}, allowed are {least} to {most}");
        }

        return value;
    }

    private async ValueTask ReadExtensionsAsync(StorageFile file, long offset)
    {
        byte[] extension = new byte[8 + BitmapExtensionBytes];
        while (offset + 8 <= ClusterSize)
        {
            await file.ReadAsync(offset, extension);
            uint type = BinaryPrimitives.ReadUInt32BigEndian(extension);
            uint length = BinaryPrimitives.ReadUInt32BigEndian(extension.AsSpan(4));
            if (type == HeaderExtensionType.End)
            {
                return;
            }

            if (type == HeaderExtensionType.Bitmaps && (AutoclearFeatures & FeatureBits.Bitmaps) != 0)
            {
                TakeBitmaps(offset + 8, extension.AsSpan(8), length);
            }
            else if (type == HeaderExtensionType.CryptoHeader && length >= 16)
            {
                EncryptionOffset = Offset(extension.AsSpan(8));
                EncryptionLength = Offset(extension.AsSpan(16));
            }

            offset += 8 + ((length + 7L) & ~7L);
        }
    }

    private void TakeBitmaps(long place, ReadOnlySpan<byte> data, uint length)
    {
        BitmapExtensionPlace = place;
        _bitmapExtensionLength = length;
        if (length == BitmapExtensionBytes)
        {
            BitmapCount = (int)Math.Min(BinaryPrimitives.ReadUInt32BigEndian(data), 65536);
            BitmapDirectoryLength = Offset(data[8..]);
            BitmapDirectoryOffset = Offset(data[16..]);
        }
    }

    /// <summary>What is wrong about the bitmaps extension itself; null for nothing, or if there is none.</summary>
    internal string? BitmapExtensionFault()
    {
        if (BitmapExtensionPlace == 0)
        {
            return null;
        }

        if (_bitmapExtensionLength != BitmapExtensionBytes)
        {
            return $"the bitmaps extension has {_bitmapExtensionLength} bytes instead of {BitmapExtensionBytes}";
        }

        if (BitmapCount is 0 or > ushort.MaxValue)
        {
            return $"the bitmaps extension says {BitmapCount} bitmaps";
        }

        return !IsAligned(BitmapDirectoryOffset) || BitmapDirectoryLength is <= 0 or > BitmapDirectoryBytesMax
            ? $"the bitmap directory is said to lie at {BitmapDirectoryOffset} with {BitmapDirectoryLength} bytes"
            : null;
    }
}
