using System.Buffers.Binary;
using BlockMount.Formats.Qcow2.Check;
using BlockMount.Formats.Qcow2.OnDisk;

namespace BlockMount.Formats.Qcow2.Repair;

/// <summary>
/// Writes the snapshot table anew where an entry is damaged (qcow2 specification, "Snapshots"): entries that lack what version 3 needs get it, too much
/// extra data is cut off, an L1 table that others use as well is copied. A snapshot whose L1 table cannot be found is dropped. A shadow change: the header
/// names the new table when it is on disk.
/// </summary>
internal sealed class SnapshotRepair
{
    private const int FixedBytes = Qcow2Limits.SnapshotEntryBytesMin;
    private const int ExtraLengthOffset = 36;
    private const int StateSizeOffset = 32;

    private readonly ImageState _state;
    private readonly CheckedLayout _layout;
    private readonly FreshClusters _fresh;

    // Whether the L1 table at an offset with so many entries shares clusters: tens of thousands of snapshots may name one.
    private readonly Dictionary<(long, uint), bool> _shared = [];

    internal SnapshotRepair(ImageState state, FreshClusters fresh)
    {
        _state = state;
        _layout = state.Layout;
        _fresh = fresh;
    }

    /// <summary>True if there was something to do.</summary>
    internal async ValueTask<bool> RunAsync()
    {
        // Internal snapshots of an image with a data file mean nothing; they are reported, and left to the user.
        bool sound = _state.Snapshots.Unread == 0 && _state.Snapshots.Snapshots.All(IsSound);
        if (_layout.SnapshotCount == 0 || _layout.HasDataFile || sound)
        {
            return false;
        }

        using MemoryStream table = new();
        int count = 0;
        foreach (CheckedSnapshot snapshot in _state.Snapshots.Snapshots)
        {
            if (await FindL1Async(snapshot) is { } found)
            {
                table.SetLength((table.Length + 7) & ~7L);
                table.Position = table.Length;
                await WriteEntryAsync(table, snapshot, found.Offset, found.Entries);
                count++;
            }
        }

        await HeaderRepair.WriteSnapshotTableAsync(_state.File, count, count == 0 ? 0 : await StoreAsync(table));
        return true;
    }

    /// <summary>
    /// Bytes of the L1 tables that would have to be copied because several snapshots, or others, use them, and of those that are missing: several snapshots
    /// may find the same.
    /// </summary>
    internal long BytesToCopy() => _state.Snapshots.Snapshots
        .Where(snapshot => !IsNothing(snapshot) && (!HasTable(snapshot) || IsShared(snapshot)))
        .Sum(snapshot => (LikelyEntries(snapshot) * 8L + _layout.ClusterSize - 1) & -_layout.ClusterSize);

    /// <summary>In how many different lengths L1 tables are missing.</summary>
    internal int MissingLengths() => _state.Snapshots.Snapshots
        .Where(snapshot => !IsNothing(snapshot) && !HasTable(snapshot)).Select(LikelyEntries).Distinct().Count();

    private bool IsSound(CheckedSnapshot snapshot) =>
        HasTable(snapshot)
        && !IsNothing(snapshot)
        && snapshot.ExtraBytes <= Qcow2Limits.SnapshotExtraBytesMax
        && (_layout.Version == 2 || snapshot.ExtraBytes >= SnapshotList.ExtraBytesVersion3)
        && !IsShared(snapshot);

    // Zeros: the header promises more entries than the table has.
    private static bool IsNothing(CheckedSnapshot snapshot) => snapshot.L1Entries == 0 && snapshot.StoredBytes == FixedBytes;

    private bool IsShared(CheckedSnapshot snapshot)
    {
        (long, uint) table = (snapshot.L1Offset, snapshot.L1Entries);
        if (!_shared.TryGetValue(table, out bool shared))
        {
            ClusterUses uses = _state.UsesOf(snapshot.L1Offset, snapshot.L1Entries * 8L);
            // A refcount structure in the same place is made anew elsewhere.
            shared = ClusterReferences.IsContested(uses) && (uses & ClusterUses.Refcounts) == 0;
            _shared.Add(table, shared);
        }

        return shared;
    }

    private async ValueTask<(long Offset, uint Entries)?> FindL1Async(CheckedSnapshot snapshot)
    {
        if (IsNothing(snapshot))
        {
            return null;
        }

        if (HasTable(snapshot))
        {
            return IsShared(snapshot) ? (await CopyL1Async(snapshot), snapshot.L1Entries) : (snapshot.L1Offset, snapshot.L1Entries);
        }

        // A damaged field: where clusters wait that nobody refers to, with a length that follows from the disk's size, is the table.
        uint entries = LikelyEntries(snapshot);
        long aligned = snapshot.L1Offset & -_layout.ClusterSize;
        if (entries > 0 && await IsAbandonedAsync(aligned, entries * 8L))
        {
            return (aligned, entries);
        }

        return entries > 0 && await _state.LostL1.FindAsync(entries) is { } found ? (found, entries) : null;
    }

    private bool HasTable(CheckedSnapshot snapshot) =>
        snapshot.HasUsableL1(_layout) && !_layout.IsOutside(snapshot.L1Offset, snapshot.L1Entries * 8L);

    private uint LikelyEntries(CheckedSnapshot snapshot) => snapshot.L1Entries <= Qcow2Limits.L1TableBytesMax / 8 && snapshot.L1Entries > 0
        ? snapshot.L1Entries
        : (uint)Math.Min((snapshot.DiskSize + _layout.L1Coverage - 1) / _layout.L1Coverage, Qcow2Limits.L1TableBytesMax / 8);

    private async ValueTask<bool> IsAbandonedAsync(long offset, long length)
    {
        if (offset <= 0 || _layout.IsOutside(offset, length))
        {
            return false;
        }

        for (long cluster = offset >> _layout.ClusterBits; cluster <= (offset + length - 1) >> _layout.ClusterBits; cluster++)
        {
            if (!_state.References.Holds(cluster) || _state.References.Count(cluster) != 0 || await _state.Stored.GetAsync(cluster) == 0)
            {
                return false;
            }
        }

        return true;
    }

    private async ValueTask<long> CopyL1Async(CheckedSnapshot snapshot)
    {
        long length = snapshot.L1Entries * 8L;
        byte[] table = new byte[(length + _layout.ClusterSize - 1) & -_layout.ClusterSize];
        await _state.File.ReadAsync(snapshot.L1Offset, table.AsMemory(0, (int)length));
        long place = await _fresh.AllocateAsync(table.Length >> _layout.ClusterBits);
        await _state.File.WriteAsync(place, table);
        return place;
    }

    private async ValueTask WriteEntryAsync(MemoryStream table, CheckedSnapshot snapshot, long l1Offset, uint l1Entries)
    {
        byte[] head = new byte[FixedBytes];
        await _state.File.ReadAsync(snapshot.Place, head);
        int stored = (int)Math.Min(snapshot.ExtraBytes, Qcow2Limits.SnapshotExtraBytesMax);
        int extraBytes = _layout.Version == 2 ? stored : Math.Max(stored, SnapshotList.ExtraBytesVersion3);
        byte[] extra = new byte[extraBytes];
        if (stored > 0)
        {
            await _state.File.ReadAsync(snapshot.Place + FixedBytes, extra.AsMemory(0, stored));
        }

        if (stored < 8 && extraBytes >= 8)
        {
            BinaryPrimitives.WriteUInt64BigEndian(extra, BinaryPrimitives.ReadUInt32BigEndian(head.AsSpan(StateSizeOffset)));
        }

        if (stored < SnapshotList.ExtraBytesVersion3 && extraBytes >= SnapshotList.ExtraBytesVersion3)
        {
            BinaryPrimitives.WriteInt64BigEndian(extra.AsSpan(8), snapshot.DiskSize);
        }

        byte[] names = new byte[snapshot.StoredBytes - FixedBytes - snapshot.ExtraBytes];
        if (names.Length > 0)
        {
            await _state.File.ReadAsync(snapshot.Place + FixedBytes + snapshot.ExtraBytes, names);
        }

        BinaryPrimitives.WriteInt64BigEndian(head, l1Offset);
        BinaryPrimitives.WriteUInt32BigEndian(head.AsSpan(8), l1Entries);
        BinaryPrimitives.WriteInt32BigEndian(head.AsSpan(ExtraLengthOffset), extraBytes);
        table.Write(head);
        table.Write(extra);
        table.Write(names);
    }

    private async ValueTask<long> StoreAsync(MemoryStream table)
    {
        byte[] bytes = new byte[(table.Length + _layout.ClusterSize - 1) & -_layout.ClusterSize];
        table.ToArray().CopyTo(bytes, 0);
        long place = await _fresh.AllocateAsync(bytes.Length >> _layout.ClusterBits);
        await _state.File.WriteAsync(place, bytes);
        return place;
    }
}
