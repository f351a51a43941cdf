using BlockMount.Base;
using BlockMount.Formats.Qcow2.OnDisk;
using BlockMount.Storage;

namespace BlockMount.Formats.Qcow2.Snapshots;

/// <summary>Lets an internal snapshot be read like an image of its own.</summary>
internal static class SnapshotAsDevice
{
    /// <summary>
    /// The header as if the snapshot were the active state: its L1 table, its disk size. Everything else, the backing file among it, is the image's.
    /// </summary>
    /// <exception cref="BlockIOException">ENOENT: no such snapshot. EINVAL: the image is to be opened for writing.</exception>
    /// <exception cref="ImageFormatException">The snapshot's entry is damaged.</exception>
    internal static async ValueTask<Qcow2Header> SelectAsync(StorageFile file, Qcow2Header header, Geometry geometry, Qcow2OpenOptions options)
    {
        if (!options.ReadOnly)
        {
            throw new BlockIOException(
                Errno.EINVAL, $"opening snapshot '{options.Snapshot}' of '{file.Name}' for writing", "A snapshot can be read only: open it read-only, or apply it first");
        }

        IReadOnlyList<SnapshotEntry> snapshots = await SnapshotTable.LoadAsync(file, header);
        SnapshotEntry snapshot = snapshots[SnapshotNames.Find(snapshots, options.Snapshot!, file.Name)];
        long size = SnapshotL1.CheckedSize(snapshot, geometry, file.Name);
        SnapshotL1.CheckTable(file, geometry, snapshot);
        return header with { L1TableOffset = snapshot.L1TableOffset, L1Size = snapshot.L1Size, Size = size };
    }
}
