using System.Buffers.Binary;
using BlockMount.Formats.Qcow2.OnDisk;

namespace BlockMount.Formats.Qcow2.Metadata;

/// <summary>
/// The fields of the header that a structural change puts in force at once; all of them lie in the file's first 512 bytes. Offsets are host
/// offsets in bytes.
/// </summary>
internal sealed record HeaderSwitch
{
    /// <summary>Virtual size in bytes.</summary>
    public required long Size { get; init; }

    public required long L1TableOffset { get; init; }

    /// <summary>Entries of the active L1 table.</summary>
    public required int L1Size { get; init; }

    public required long RefcountTableOffset { get; init; }

    /// <summary>Clusters of the refcount table.</summary>
    public required int RefcountTableClusters { get; init; }

    /// <summary>log2 of a refcount's width in bits; version 2 has no such field, and no other value than 4.</summary>
    public required int RefcountOrder { get; init; }

    public required int SnapshotCount { get; init; }

    public required long SnapshotsOffset { get; init; }

    /// <summary>What the header says now: the start for a change of some fields.</summary>
    /// <param name="l1">The active L1 table, which may have moved since the header was read.</param>
    /// <param name="refcounts">The refcount table, likewise.</param>
    internal static HeaderSwitch From(Qcow2Header header, Geometry geometry, long size, L1Table l1, RefcountTable refcounts) => new()
    {
        Size = size,
        L1TableOffset = l1.HostOffset,
        L1Size = l1.Count,
        RefcountTableOffset = geometry.OffsetOf(refcounts.Location.Start),
        RefcountTableClusters = (int)refcounts.Location.Count,
        RefcountOrder = header.RefcountOrder,
        SnapshotCount = header.SnapshotCount,
        SnapshotsOffset = header.SnapshotsOffset,
    };

    /// <summary>The header with these fields.</summary>
    internal Qcow2Header ApplyTo(Qcow2Header header) => header with
    {
        Size = Size,
        L1TableOffset = L1TableOffset,
        L1Size = L1Size,
        RefcountTableOffset = RefcountTableOffset,
        RefcountTableClusters = RefcountTableClusters,
        RefcountOrder = RefcountOrder,
        SnapshotCount = SnapshotCount,
        SnapshotsOffset = SnapshotsOffset,
    };

    /// <summary>Writes the fields into the first sector of an image.</summary>
    internal void Encode(Span<byte> sector)
    {
        int version = BinaryPrimitives.ReadInt32BigEndian(sector[Qcow2HeaderFields.Version..]);
        BinaryPrimitives.WriteInt64BigEndian(sector[Qcow2HeaderFields.Size..], Size);
        BinaryPrimitives.WriteInt32BigEndian(sector[Qcow2HeaderFields.L1Size..], L1Size);
        BinaryPrimitives.WriteInt64BigEndian(sector[Qcow2HeaderFields.L1TableOffset..], L1TableOffset);
        BinaryPrimitives.WriteInt64BigEndian(sector[Qcow2HeaderFields.RefcountTableOffset..], RefcountTableOffset);
        BinaryPrimitives.WriteInt32BigEndian(sector[Qcow2HeaderFields.RefcountTableClusters..], RefcountTableClusters);
        BinaryPrimitives.WriteInt32BigEndian(sector[Qcow2HeaderFields.SnapshotCount..], SnapshotCount);
        BinaryPrimitives.WriteInt64BigEndian(sector[Qcow2HeaderFields.SnapshotsOffset..], SnapshotsOffset);
        if (version >= 3)
        {
            BinaryPrimitives.WriteInt32BigEndian(sector[Qcow2HeaderFields.RefcountOrder..], RefcountOrder);
        }
    }
}
