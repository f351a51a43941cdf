using System.Buffers.Binary;
using BlockMount.Formats.Qcow2.Allocation;
using BlockMount.Formats.Qcow2.Metadata;
using BlockMount.Formats.Qcow2.OnDisk;
using BlockMount.Storage;

namespace BlockMount.Formats.Qcow2.Amend;

/// <summary>
/// Replaces L2 entries that say "zero", which version 2 does not know, in the active tables and those of all snapshots: by nothing where no backing file would
/// show through, by a cluster of zeros otherwise. An entry changes in place and reads the same before and after, for everybody who shares the
/// table, so that any part of the change leaves a valid image. New clusters and their refcounts are on disk before the entries
/// that name them (I3); clusters that entries named lose their references when the entries are on disk (I4).
/// </summary>
internal sealed class ZeroExpansion
{
    private const int CacheSlices = 256;
    private const ulong CopiedBit = 1UL << 63;

    private readonly StorageFile _file;
    private readonly Qcow2Header _header;
    private readonly Geometry _geometry;
    private readonly L1Table _l1;
    private readonly RefcountTable _refcounts;
    private readonly ClusterAllocator _allocator;
    private readonly WriteBackOrder _order;
    private readonly HashSet<long> _visited = [];

    private ZeroExpansion(
        StorageFile file, Qcow2Header header, Geometry geometry, L1Table l1, RefcountTable refcounts, ClusterAllocator allocator, WriteBackOrder order)
    {
        _file = file;
        _header = header;
        _geometry = geometry;
        _l1 = l1;
        _refcounts = refcounts;
        _allocator = allocator;
        _order = order;
    }

    /// <summary>Runs over all tables. The image has standard L2 entries and no external data file, and nobody else has it open.</summary>
    internal static async ValueTask RunAsync(StorageFile file, Qcow2Header header)
    {
        Geometry geometry = new(header);
        ImageHealth health = new(file, readOnly: false, new IncompatibleFeatures(file, header.IncompatibleFeatures), notify: null);
        OverlapChecks checks = new(geometry, health, new MetadataMap(), MetadataKinds.Cached);
        L1Table l1 = await L1Table.LoadAsync(file, header.L1TableOffset, header.L1Size);
        MetadataCache blocks = new(file, geometry.SliceSize, CacheSlices);
        WriteBackOrder order = new(file, blocks, new MetadataCache(file, geometry.SliceSize, 2), checks);
        HostRun location = new(geometry.HostClusterOf(header.RefcountTableOffset), header.RefcountTableClusters);
        RefcountTable refcounts = await RefcountTable.LoadAsync(file, geometry, blocks, order, checks, location);
        await TableRegistration.RunAsync(file, header, geometry, l1, checks, MetadataKinds.Cached);
        ClusterAllocator allocator = new(file, geometry, refcounts, order, checks);
        try
        {
            await new ZeroExpansion(file, header, geometry, l1, refcounts, allocator, order).RunAsync();
        }
        finally
        {
            await health.Recorded;
        }
    }

    private async ValueTask RunAsync()
    {
        await ExpandL1Async(_l1);
        foreach (SnapshotEntry snapshot in await SnapshotTable.LoadAsync(_file, _header))
        {
            bool inside = snapshot.L1Size is >= 0 and <= Qcow2Limits.L1TableBytesMax / sizeof(ulong)
                && _geometry.OffsetInCluster(snapshot.L1TableOffset) == 0
                && snapshot.L1TableOffset >= 0
                && snapshot.L1TableOffset <= _file.Length;
            if (!inside)
            {
                throw Qcow2HeaderValidator.Refuse(_file.Name, $"the L1 table of the snapshot '{snapshot.Name}' at {snapshot.L1TableOffset} lies outside the file");
            }

            await ExpandL1Async(await L1Table.LoadAsync(_file, snapshot.L1TableOffset, snapshot.L1Size));
        }

        await _order.WriteBackAsync(_l1);
        await _file.FlushAsync();
    }

    private async ValueTask ExpandL1Async(L1Table l1)
    {
        for (int i = 0; i < l1.Count; i++)
        {
            L1Entry entry = l1.Get(i);
            if (entry.IsPresent && _visited.Add(entry.TableOffset))
            {
                if (_geometry.OffsetInCluster(entry.TableOffset) != 0 || entry.TableOffset >= _file.Length)
                {
                    throw Qcow2HeaderValidator.Refuse(_file.Name, $"the L2 table at {entry.TableOffset} lies outside the file or is not aligned to a cluster");
                }

                await ExpandTableAsync(entry.TableOffset);
            }
        }
    }

    private async ValueTask ExpandTableAsync(long tableOffset)
    {
        byte[] table = new byte[_geometry.ClusterSize];
        await _file.ReadAsync(tableOffset, table);
        ulong references = await _refcounts.GetAsync(_geometry.HostClusterOf(tableOffset));
        var dropped = new List<HostCluster>();
        bool changed = false;
        for (int i = 0; i < table.Length; i += sizeof(ulong))
        {
            L2Entry entry = new(BinaryPrimitives.ReadUInt64BigEndian(table.AsSpan(i)));
            if (entry.Kind(version: 3) is ClusterKind.ZeroPlain or ClusterKind.ZeroAllocated)
            {
                ulong replacement = await ReplacementAsync(entry, references, dropped);
                BinaryPrimitives.WriteUInt64BigEndian(table.AsSpan(i), replacement);
                changed = true;
            }
        }

        if (!changed)
        {
            return;
        }

        await _order.WriteBackAsync(_l1);
        await _file.FlushAsync();
        await _file.WriteAsync(tableOffset, table);
        await _file.FlushAsync();
        foreach (HostCluster cluster in dropped)
        {
            for (ulong i = 0; i < references; i++)
            {
                await _allocator.ReleaseAsync(new HostRun(cluster, 1));
            }
        }
    }

    private async ValueTask<ulong> ReplacementAsync(L2Entry entry, ulong references, List<HostCluster> dropped)
    {
        bool keep = false;
        HostCluster cluster = _geometry.HostClusterOf(entry.HostOffset);
        if (entry.HostOffset != 0)
        {
            // Somebody else's entry may show what the cluster holds: then it is not ours to fill.
            keep = _header.Backing is not null && await _refcounts.GetAsync(cluster) == references;
            if (!keep)
            {
                dropped.Add(cluster);
            }
        }

        if (_header.Backing is null)
        {
            return 0;
        }

        if (!keep)
        {
            cluster = (await _allocator.AllocateAsync(1)).Run.Start;
            await _refcounts.SetAsync(cluster, references);
        }

        long offset = _geometry.OffsetOf(cluster);
        // A cluster that was preallocated keeps its space.
        await _file.WriteZeroesAsync(offset, _geometry.ClusterSize, mayUnmap: !keep);
        return (ulong)offset | (references == 1 ? CopiedBit : 0);
    }
}
