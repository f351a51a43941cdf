using System.Buffers.Binary;
using System.Text;
using BlockMount.Formats.Qcow2.OnDisk;
using BlockMount.Storage;

namespace BlockMount.Formats.Qcow2.Check;

/// <summary>One entry of the snapshot table, as the check needs it.</summary>
/// <param name="Place">Host offset of the entry.</param>
/// <param name="StoredBytes">Bytes of the entry, padding excluded.</param>
/// <param name="ExtraBytes">Bytes of extra data.</param>
/// <param name="L1Offset">Host offset of the snapshot's L1 table.</param>
/// <param name="L1Entries">Entries of the snapshot's L1 table.</param>
/// <param name="DiskSize">Bytes of the disk when the snapshot was taken.</param>
internal sealed record CheckedSnapshot(string Name, long Place, long StoredBytes, uint ExtraBytes, long L1Offset, uint L1Entries, long DiskSize)
{
    /// <summary>The L1 table can be walked.</summary>
    internal bool HasUsableL1(CheckedLayout layout) => layout.IsAligned(L1Offset) && L1Entries <= Qcow2Limits.L1TableBytesMax / 8;
}

/// <summary>
/// The snapshot table, read entry by entry and leniently: what lies behind the end of the file reads as zeros (qcow2 specification, "Snapshots").
/// </summary>
internal sealed class SnapshotList
{
    /// <summary>Bytes of extra data that version 3 requires: state size and disk size.</summary>
    internal const int ExtraBytesVersion3 = 16;
    private const int NameCharsMax = 64;

    private readonly List<CheckedSnapshot> _snapshots = [];

    internal IReadOnlyList<CheckedSnapshot> Snapshots => _snapshots;

    /// <summary>Host bytes from the table's start to the end of its last entry.</summary>
    internal long TableBytes { get; private set; }

    /// <summary>Entries that the header promises and that are beyond every limit.</summary>
    internal int Unread { get; private set; }

    internal static async ValueTask<SnapshotList> ReadAsync(StorageFile file, CheckedLayout layout)
    {
        SnapshotList list = new();
        byte[] entry = layout.SnapshotCount == 0 ? [] : new byte[Qcow2Limits.SnapshotEntryBytesMin + 24];
        long offset = layout.SnapshotsOffset;
        for (int i = 0; i < layout.SnapshotCount; i++)
        {
            offset = (offset + 7) & ~7L;
            await file.ReadAsync(offset, entry);
            CheckedSnapshot snapshot = await DecodeAsync(file, layout, offset, entry);
            long end = offset + snapshot.StoredBytes;
            if (end - layout.SnapshotsOffset > Qcow2Limits.SnapshotTableBytesMax)
            {
                list.Unread = layout.SnapshotCount - i;
                break;
            }

            list._snapshots.Add(snapshot);
            offset = end;
        }

        list.TableBytes = offset - layout.SnapshotsOffset;
        return list;
    }

    /// <summary>Reports what is wrong about the table itself.</summary>
    internal void Report(CheckedLayout layout, CheckReport report)
    {
        for (int i = 0; i < _snapshots.Count; i++)
        {
            CheckedSnapshot snapshot = _snapshots[i];
            if (snapshot.ExtraBytes > Qcow2Limits.SnapshotExtraBytesMax)
            {
                report.Add(CheckFindingKind.Unchecked, snapshot.Place, $"snapshot table entry {i} has {snapshot.ExtraBytes} bytes of extra data, allowed are {Qcow2Limits.SnapshotExtraBytesMax}");
            }
            else if (layout.Version >= 3 && snapshot.ExtraBytes < ExtraBytesVersion3)
            {
                report.Add(CheckFindingKind.Unreadable, snapshot.Place, $"snapshot table entry {i} is incomplete: {snapshot.ExtraBytes} bytes of extra data, version 3 needs {ExtraBytesVersion3}");
            }
        }

        if (Unread > 0)
        {
            report.Add(CheckFindingKind.Unchecked, layout.SnapshotsOffset, $"the snapshot table is longer than {Qcow2Limits.SnapshotTableBytesMax} bytes, {Unread} snapshots were not read");
        }
    }

    private static async ValueTask<CheckedSnapshot> DecodeAsync(StorageFile file, CheckedLayout layout, long place, byte[] entry)
    {
        uint extra = BinaryPrimitives.ReadUInt32BigEndian(entry.AsSpan(36));
        int id = BinaryPrimitives.ReadUInt16BigEndian(entry.AsSpan(12));
        int name = BinaryPrimitives.ReadUInt16BigEndian(entry.AsSpan(14));
        byte[] text = new byte[Math.Min(name, NameCharsMax * 4)];
        if (text.Length > 0)
        {
            await file.ReadAsync(place + Qcow2Limits.SnapshotEntryBytesMin + extra + id, text);
        }

        string decoded = Encoding.UTF8.GetString(text);
        return new CheckedSnapshot(
            decoded.Length > NameCharsMax ? decoded[..NameCharsMax] : decoded,
            place,
            Qcow2Limits.SnapshotEntryBytesMin + (long)extra + id + name,
            extra,
            (long)Math.Min(BinaryPrimitives.ReadUInt64BigEndian(entry), long.MaxValue),
            BinaryPrimitives.ReadUInt32BigEndian(entry.AsSpan(8)),
            extra >= ExtraBytesVersion3 ? (long)(BinaryPrimitives.ReadUInt64BigEndian(entry.AsSpan(48)) & long.MaxValue) : layout.VirtualSize);
    }
}
