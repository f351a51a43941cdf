using System.Buffers.Binary;

namespace BlockMount.Formats.Qcow2.OnDisk;

/// <summary>
/// The fixed header field by field as stored, nothing checked and nothing narrowed. The fields that version 2 lacks have the
/// values that version 2 implies.
/// </summary>
internal readonly record struct RawHeader
{
    public required uint Version { get; init; }
    public required ulong BackingFileOffset { get; init; }
    public required uint BackingFileSize { get; init; }
    public required uint ClusterBits { get; init; }
    public required ulong Size { get; init; }
    public required uint CryptMethod { get; init; }
    public required uint L1Size { get; init; }
    public required ulong L1TableOffset { get; init; }
    public required ulong RefcountTableOffset { get; init; }
    public required uint RefcountTableClusters { get; init; }
    public required uint SnapshotCount { get; init; }
    public required ulong SnapshotsOffset { get; init; }
    public ulong IncompatibleFeatures { get; init; }
    public ulong CompatibleFeatures { get; init; }
    public ulong AutoclearFeatures { get; init; }
    public uint RefcountOrder { get; init; }
    public uint HeaderLength { get; init; }
    public byte CompressionType { get; init; }

    /// <summary>Reads at least 72 bytes; a version 3 header that is cut short has length 0 here, which validation refuses.</summary>
    public static RawHeader Read(ReadOnlySpan<byte> start)
    {
        var header = new RawHeader
        {
            Version = U32(start, Qcow2HeaderFields.Version),
            BackingFileOffset = U64(start, Qcow2HeaderFields.BackingFileOffset),
            BackingFileSize = U32(start, Qcow2HeaderFields.BackingFileSize),
            ClusterBits = U32(start, Qcow2HeaderFields.ClusterBits),
            Size = U64(start, Qcow2HeaderFields.Size),
            CryptMethod = U32(start, Qcow2HeaderFields.CryptMethod),
            L1Size = U32(start, Qcow2HeaderFields.L1Size),
            L1TableOffset = U64(start, Qcow2HeaderFields.L1TableOffset),
            RefcountTableOffset = U64(start, Qcow2HeaderFields.RefcountTableOffset),
            RefcountTableClusters = U32(start, Qcow2HeaderFields.RefcountTableClusters),
            SnapshotCount = U32(start, Qcow2HeaderFields.SnapshotCount),
            SnapshotsOffset = U64(start, Qcow2HeaderFields.SnapshotsOffset),
            RefcountOrder = 4,
            HeaderLength = Qcow2HeaderFields.Version2Length,
        };
        return header.Version == 2 ? header : ReadVersion3(header, start);
    }

    /// <summary>Narrows the fields; only after validation.</summary>
    public Qcow2Header ToHeader() => new()
    {
        Version = (int)Version,
        ClusterBits = (int)ClusterBits,
        Size = (long)Size & ~511L,
        CryptMethod = (int)CryptMethod,
        L1Size = (int)L1Size,
        L1TableOffset = (long)L1TableOffset,
        RefcountTableOffset = (long)RefcountTableOffset,
        RefcountTableClusters = (int)RefcountTableClusters,
        RefcountOrder = (int)RefcountOrder,
        SnapshotCount = (int)SnapshotCount,
        SnapshotsOffset = SnapshotCount == 0 ? 0 : (long)SnapshotsOffset,
        IncompatibleFeatures = IncompatibleFeatures,
        CompatibleFeatures = CompatibleFeatures,
        AutoclearFeatures = AutoclearFeatures,
        HeaderLength = (int)HeaderLength,
        CompressionType = CompressionType,
    };

    private static RawHeader ReadVersion3(in RawHeader header, ReadOnlySpan<byte> start)
    {
        if (start.Length < Qcow2HeaderFields.Version3LengthMin)
        {
            return header with { HeaderLength = 0 };
        }

        uint headerLength = U32(start, Qcow2HeaderFields.HeaderLength);
        bool hasCompressionType = headerLength > Qcow2HeaderFields.CompressionType
            && start.Length > Qcow2HeaderFields.CompressionType;
        return header with
        {
            IncompatibleFeatures = U64(start, Qcow2HeaderFields.IncompatibleFeatures),
            CompatibleFeatures = U64(start, Qcow2HeaderFields.CompatibleFeatures),
            AutoclearFeatures = U64(start, Qcow2HeaderFields.AutoclearFeatures),
            RefcountOrder = U32(start, Qcow2HeaderFields.RefcountOrder),
            HeaderLength = headerLength,
            CompressionType = hasCompressionType ? start[Qcow2HeaderFields.CompressionType] : (byte)0,
        };
    }

    private static uint U32(ReadOnlySpan<byte> start, int offset) => BinaryPrimitives.ReadUInt32BigEndian(start[offset..]);

    private static ulong U64(ReadOnlySpan<byte> start, int offset) => BinaryPrimitives.ReadUInt64BigEndian(start[offset..]);
}
