using System.Buffers.Binary;
using BlockMount.Base;
using BlockMount.Formats.Qcow2.Metadata;
using BlockMount.Formats.Qcow2.OnDisk;
using BlockMount.Storage;

namespace BlockMount.Formats.Qcow2.Snapshots;

/// <summary>
/// Makes the new tables for one change of the snapshots, as part of a <see cref="ShadowChange"/>, and tells what the header has to say for them.
/// One object for one change; whoever calls holds the metadata mutex and has flushed everything.
/// <code>
///            active tree          the snapshot's tree     COPIED
/// create     +1 (shared range)    is new                  cleared in both
/// apply      -1                   +1                      cleared in the new active tree
/// delete                          -1                      set in the active tree where one reference is left
/// </code>
/// An L2 table that would change is replaced by a copy; every other table is shared as it is.
/// </summary>
internal sealed class SnapshotPlan
{
    private readonly StorageFile _file;
    private readonly Geometry _geometry;
    private readonly Qcow2Header _header;
    private readonly L1Table _l1;
    private readonly RefcountTable _refcounts;
    private readonly ShadowChange _change;
    private readonly StoredSnapshotTable _table;
    private readonly TreeChanges _changes;
    private readonly int _windowClusters;

    private SnapshotPlan(
        StorageFile file,
        Qcow2Header header,
        Geometry geometry,
        L1Table l1,
        RefcountTable refcounts,
        ShadowChange change,
        StoredSnapshotTable table,
        int windowClusters)
    {
        _file = file;
        _geometry = geometry;
        _header = header;
        _l1 = l1;
        _refcounts = refcounts;
        _change = change;
        _table = table;
        _windowClusters = windowClusters;
        _changes = new TreeChanges(file, geometry, header.L2EntrySize);
    }

    /// <summary>The snapshots there are.</summary>
    internal IReadOnlyList<SnapshotEntry> Snapshots => _table.Entries;

    /// <summary>Clusters that nobody refers to after the change.</summary>
    internal IReadOnlyList<HostRun> Freed { get; private set; } = [];

    /// <summary>Reads the snapshots of the image.</summary>
    /// <param name="header">The header as it is now, but for tables that have moved.</param>
    /// <param name="windowClusters">Host clusters that are counted at once: bounds the memory.</param>
    internal static async ValueTask<SnapshotPlan> LoadAsync(
        StorageFile file, Qcow2Header header, Geometry geometry, L1Table l1, RefcountTable refcounts, ShadowChange change, int windowClusters)
    {
        StoredSnapshotTable table = await SnapshotTable.LoadTableAsync(file, header);
        return new SnapshotPlan(file, header, geometry, l1, refcounts, change, table, windowClusters);
    }

    /// <summary>The state with one snapshot more, of a disk of <paramref name="size"/> bytes. VM state in the active tree is not taken along.</summary>
    /// <param name="entry">The new entry; where its tables lie is filled in here.</param>
    internal async ValueTask<HeaderSwitch> CreateAsync(SnapshotEntry entry, long size)
    {
        L1Entry[] active = _l1.ToArray();
        // Behind the disk's last L1 entry lies saved machine state.
        int shared = (int)Math.Min(_geometry.L1EntriesFor(size), active.Length);
        _changes.AddTree(active, shared, +1);
        await Refcounts().CheckAsync(_changes);
        L1Entry[] newActive = await Flags().ClearAsync(active, shared, copiesAreShared: true);
        L1Entry[] frozen = [.. newActive];
        Array.Clear(frozen, shared, frozen.Length - shared);
        _changes.AddSubstitution(active, newActive, shared, users: 2);
        SnapshotEntry placed = entry with { L1TableOffset = await WriteL1Async(frozen), L1Size = frozen.Length };
        return await CompleteAsync(newActive, size, [.. _table.Entries, placed]);
    }

    /// <summary>The state in which the disk is what it was when the snapshot was taken, its size and machine state included.</summary>
    internal async ValueTask<HeaderSwitch> ApplyAsync(SnapshotEntry snapshot, long size)
    {
        long newSize = SnapshotL1.CheckedSize(snapshot, _geometry, _file.Name);
        if (_header.Version < 3 && newSize != size)
        {
            throw new BlockIOException(
                Errno.EOPNOTSUPP,
                $"applying snapshot '{snapshot.Name}' of '{_file.Name}': it has {newSize} bytes, the disk {size}, and a version 2 image with snapshots cannot change its size",
                "Convert the image to version 3 first");
        }

        L1Entry[] frozen = (await SnapshotL1.LoadAsync(_file, _geometry, snapshot)).ToArray();
        L1Entry[] active = _l1.ToArray();
        _changes.AddTree(active, active.Length, -1);
        _changes.AddTree(frozen, frozen.Length, +1);
        await Refcounts().CheckAsync(_changes);
        L1Entry[] newActive = await Flags().ClearAsync(frozen, frozen.Length, copiesAreShared: false);
        _changes.AddSubstitution(frozen, newActive, frozen.Length, users: 1);
        return await CompleteAsync(newActive, newSize, _table.Entries);
    }

    /// <summary>The state without a snapshot.</summary>
    internal async ValueTask<HeaderSwitch> DeleteAsync(SnapshotEntry snapshot, long size)
    {
        L1Entry[] frozen = (await SnapshotL1.LoadAsync(_file, _geometry, snapshot)).ToArray();
        _changes.AddTree(frozen, frozen.Length, -1);
        AddLostTable(snapshot.L1TableOffset, snapshot.L1Size * (long)sizeof(ulong));
        await Refcounts().CheckAsync(_changes);
        L1Entry[] active = _l1.ToArray();
        L1Entry[] newActive = [.. active];
        await Flags().RestoreAsync(_changes, _refcounts, active, newActive);
        _changes.AddSubstitution(active, newActive, active.Length, users: 1);
        return await CompleteAsync(newActive, size, [.. _table.Entries.Where(entry => entry != snapshot)]);
    }

    private ShadowCopiedFlags Flags() => new(_file, _geometry, _change, _header.L2EntrySize, _windowClusters);

    private ShadowRefcounts Refcounts() => new(_file, _geometry, _refcounts, _change, _header.RefcountOrder, _windowClusters);

    // What all three have in common: the active L1 table and the snapshot table are written anew, then the refcounts.
    private async ValueTask<HeaderSwitch> CompleteAsync(L1Entry[] active, long size, IReadOnlyList<SnapshotEntry> snapshots)
    {
        long l1Offset = await WriteL1Async(active);
        AddLostTable(_l1.HostOffset, _l1.Count * (long)sizeof(ulong));
        byte[] table = SnapshotTable.Encode(snapshots, _header.Version);
        long tableOffset = await WriteSnapshotTableAsync(table);
        AddLostTable(_header.SnapshotsOffset, _table.Length);
        ShadowRefcounts refcounts = Refcounts();
        HostRun refcountTable = await refcounts.BuildAsync(_changes);
        await _change.FlushAsync();
        Freed = refcounts.Freed;
        return HeaderSwitch.From(_header, _geometry, size, _l1, _refcounts) with
        {
            L1TableOffset = l1Offset,
            L1Size = active.Length,
            RefcountTableOffset = _geometry.OffsetOf(refcountTable.Start),
            RefcountTableClusters = (int)refcountTable.Count,
            SnapshotCount = snapshots.Count,
            SnapshotsOffset = tableOffset,
        };
    }

    // 0 for no entries: a disk without bytes has no L1 table.
    private async ValueTask<long> WriteL1Async(L1Entry[] entries)
    {
        if (entries.Length == 0)
        {
            return 0;
        }

        HostRun run = await _change.WriteNewAsync((long)entries.Length * sizeof(ulong), (position, bytes) =>
        {
            for (int i = 0; i < bytes.Length; i += sizeof(ulong))
            {
                BinaryPrimitives.WriteUInt64BigEndian(bytes[i..], entries[(position + i) / sizeof(ulong)].Raw);
            }
        });
        return _geometry.OffsetOf(run.Start);
    }

    private async ValueTask<long> WriteSnapshotTableAsync(byte[] table)
    {
        if (table.Length == 0)
        {
            return 0;
        }

        HostRun run = await _change.WriteNewAsync(
            table.Length, (position, bytes) => table.AsSpan((int)position, bytes.Length).CopyTo(bytes));
        return _geometry.OffsetOf(run.Start);
    }

    private void AddLostTable(long offset, long length)
    {
        if (length > 0)
        {
            _changes.AddLost(new HostRun(_geometry.HostClusterOf(offset), _geometry.ClustersFor(length)));
        }
    }
}
