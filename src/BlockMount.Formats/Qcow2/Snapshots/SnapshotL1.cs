using BlockMount.Base;
using BlockMount.Formats.Qcow2.Metadata;
using BlockMount.Formats.Qcow2.OnDisk;
using BlockMount.Storage;

namespace BlockMount.Formats.Qcow2.Snapshots;

/// <summary>Reads the L1 table of a snapshot, whose entry in the snapshot table nobody has checked before.</summary>
internal static class SnapshotL1
{
    private const int SectorSize = 512;
    private const long EntriesMax = Qcow2Limits.L1TableBytesMax / sizeof(ulong);

    /// <summary>The table, long enough for the snapshot's disk: what the image lacks of it is unallocated.</summary>
    /// <exception cref="ImageFormatException">The entry breaks a limit of the format.</exception>
    internal static ValueTask<L1Table> LoadAsync(StorageFile file, Geometry geometry, SnapshotEntry snapshot)
    {
        CheckTable(file, geometry, snapshot);
        long size = CheckedSize(snapshot, geometry, file.Name);
        return L1Table.LoadAsync(file, snapshot.L1TableOffset, snapshot.L1Size, (int)geometry.L1EntriesFor(size));
    }

    /// <summary>Refuses a table that breaks a limit.</summary>
    /// <exception cref="ImageFormatException">The entry breaks a limit of the format.</exception>
    internal static void CheckTable(StorageFile file, Geometry geometry, SnapshotEntry snapshot)
    {
        long bytes = snapshot.L1Size * (long)sizeof(ulong);
        if (snapshot.L1Size is < 0 or > (int)EntriesMax)
        {
            throw Refuse(file.Name, snapshot, $"its L1 table has {(uint)snapshot.L1Size} entries, more than {EntriesMax}");
        }

        bool inFile = snapshot.L1TableOffset >= 0 && snapshot.L1TableOffset <= file.Length - bytes;
        if (snapshot.L1Size > 0 && (!inFile || geometry.OffsetInCluster(snapshot.L1TableOffset) != 0))
        {
            throw Refuse(file.Name, snapshot, $"its L1 table at {snapshot.L1TableOffset:#x} is not aligned to a cluster or reaches past the end of the file");
        }
    }

    /// <summary>The snapshot's disk size in bytes, rounded down to sectors as that of the image is.</summary>
    /// <exception cref="ImageFormatException">An image of this cluster size cannot be so large.</exception>
    internal static long CheckedSize(SnapshotEntry snapshot, Geometry geometry, string fileName)
    {
        long size = snapshot.DiskSize;
        return size >= 0 && size <= EntriesMax * geometry.L1EntryCoverage
            ? Alignment.Down(size, SectorSize)
            : throw Refuse(fileName, snapshot, $"its disk size is {(ulong)size}, more than {EntriesMax * geometry.L1EntryCoverage} bytes");
    }

    private static ImageFormatException Refuse(string fileName, SnapshotEntry snapshot, string what) =>
        new($"Snapshot '{snapshot.Name}' of '{fileName}' cannot be used: {what}", "The image is damaged: run 'blockmount check' on it");
}
