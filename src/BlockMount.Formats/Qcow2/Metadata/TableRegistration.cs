using System.Buffers.Binary;
using BlockMount.Base;
using BlockMount.Base.Buffers;
using BlockMount.Formats.Qcow2.OnDisk;
using BlockMount.Storage;

namespace BlockMount.Formats.Qcow2.Metadata;

/// <summary>
/// Registers the tables of an image that is being opened for writing with its <see cref="OverlapChecks"/>: the L1 table, its L2 tables and the
/// snapshots' tables (the refcount structures and the bitmap directory register themselves). From memory, except for the snapshot table and,
/// with <see cref="MetadataKinds.InactiveL2"/>, the snapshots' L1 tables. Damage is not looked for here: it is found when something is written.
/// </summary>
internal static class TableRegistration
{
    // What a hostile snapshot table may cost: 16 bytes of memory for a cluster of these.
    private const long InactiveL1BytesMax = 1 << 30;
    private const int InactiveL2CountMax = 4 << 20;

    /// <exception cref="ImageFormatException">The snapshot table cannot be read, or is larger than any program would make it.</exception>
    internal static async ValueTask RunAsync(
        StorageFile file, Qcow2Header header, Geometry geometry, L1Table l1, OverlapChecks checks, MetadataKinds kinds)
    {
        AddActive(header, geometry, l1, checks);
        if (header.SnapshotCount > 0)
        {
            IReadOnlyList<SnapshotEntry> snapshots = await SnapshotTable.LoadAsync(file, header);
            checks.Add(Run(geometry, header.SnapshotsOffset, snapshots.Sum(snapshot => (long)snapshot.StoredLength)), MetadataKinds.SnapshotTable);
            List<SnapshotEntry> usable = AddInactiveL1(file, geometry, snapshots, checks);
            if (kinds.HasFlag(MetadataKinds.InactiveL2))
            {
                await AddInactiveL2Async(file, geometry, usable, checks);
            }
        }
    }

    private static void AddActive(Qcow2Header header, Geometry geometry, L1Table l1, OverlapChecks checks)
    {
        if (l1.Count > 0)
        {
            checks.Add(Run(geometry, header.L1TableOffset, (long)l1.Count * sizeof(ulong)), MetadataKinds.ActiveL1);
        }

        for (int i = 0; i < l1.Count; i++)
        {
            L1Entry entry = l1.Get(i);
            if (IsTable(entry, geometry))
            {
                checks.Add(new HostRun(geometry.HostClusterOf(entry.TableOffset), 1), MetadataKinds.ActiveL2);
            }
        }
    }

    // A snapshot whose L1 table cannot be where the entry says is of no use, and an affair of the check.
    private static List<SnapshotEntry> AddInactiveL1(
        StorageFile file, Geometry geometry, IReadOnlyList<SnapshotEntry> snapshots, OverlapChecks checks)
    {
        List<SnapshotEntry> usable = [];
        long total = 0;
        foreach (SnapshotEntry snapshot in snapshots)
        {
            long length = (long)snapshot.L1Size * sizeof(ulong);
            if (length is <= 0 or > Qcow2Limits.L1TableBytesMax || !IsInside(file, geometry, snapshot.L1TableOffset, length))
            {
                continue;
            }

            total += length;
            if (total > InactiveL1BytesMax)
            {
                throw Qcow2HeaderValidator.Refuse(file.Name, $"the L1 tables of the snapshots together have more than {InactiveL1BytesMax} bytes");
            }

            checks.Add(Run(geometry, snapshot.L1TableOffset, length), MetadataKinds.InactiveL1);
            usable.Add(snapshot);
        }

        return usable;
    }

    private static async ValueTask AddInactiveL2Async(
        StorageFile file, Geometry geometry, IReadOnlyList<SnapshotEntry> snapshots, OverlapChecks checks)
    {
        // Snapshots share tables with each other: that is no damage, so each one is added once.
        HashSet<long> seen = [];
        AlignedBuffer buffer = AlignedBufferPool.Shared.Rent(1 << 20);
        try
        {
            foreach (SnapshotEntry snapshot in snapshots)
            {
                long length = (long)snapshot.L1Size * sizeof(ulong);
                for (long done = 0; done < length; done += buffer.Length)
                {
                    Memory<byte> part = buffer.Memory[..(int)Math.Min(length - done, buffer.Length)];
                    await file.ReadAsync(snapshot.L1TableOffset + done, part);
                    AddTables(part.Span, geometry, seen, checks);
                }

                if (seen.Count > InactiveL2CountMax)
                {
                    throw Qcow2HeaderValidator.Refuse(
                        file.Name, $"the snapshots have more than {InactiveL2CountMax} L2 tables, too many for overlap-check.inactive-l2");
                }
            }
        }
        finally
        {
            AlignedBufferPool.Shared.Return(buffer);
        }
    }

    private static void AddTables(ReadOnlySpan<byte> entries, Geometry geometry, HashSet<long> seen, OverlapChecks checks)
    {
        for (int i = 0; i < entries.Length; i += sizeof(ulong))
        {
            L1Entry entry = new(BinaryPrimitives.ReadUInt64BigEndian(entries[i..]));
            if (IsTable(entry, geometry) && seen.Add(entry.TableOffset))
            {
                checks.Add(new HostRun(geometry.HostClusterOf(entry.TableOffset), 1), MetadataKinds.InactiveL2);
            }
        }
    }

    private static bool IsTable(L1Entry entry, Geometry geometry) => entry.IsPresent && geometry.OffsetInCluster(entry.TableOffset) == 0;

    private static bool IsInside(StorageFile file, Geometry geometry, long offset, long length) =>
        offset > 0 && geometry.OffsetInCluster(offset) == 0 && offset <= Alignment.Up(file.Length, geometry.ClusterSize) - length;

    private static HostRun Run(Geometry geometry, long offset, long length) => new(geometry.HostClusterOf(offset), geometry.ClustersFor(length));
}
