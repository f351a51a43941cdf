using System.Buffers.Binary;
using BlockMount.Formats.Qcow2.Check;

namespace BlockMount.Formats.Qcow2.Repair;

/// <summary>
/// Mends the entries of L1 and L2 tables in place: nothing here needs a refcount that is not there already, so it comes before the refcounts (I3, I4).
/// Tables of snapshots are mended as those of the active disk; COPIED flags are <see cref="CopiedFlags"/>' business.
/// </summary>
internal sealed class TableRepair
{
    private const int L1ChunkBytes = 64 << 10;

    private readonly ImageState _state;
    private readonly CheckedLayout _layout;
    private readonly EntryRepair _entries;
    private readonly FreshClusters _fresh;
    private readonly CheckedL2Table _l2;
    private readonly byte[] _copy;
    private readonly byte[] _chunk;

    // L2 tables that were visited, and whether they are tables.
    private readonly Dictionary<long, bool> _mended = [];

    // L1 tables that were visited.
    private readonly HashSet<(long, int)> _roots = [];

    internal TableRepair(ImageState state, FreshClusters fresh)
    {
        _state = state;
        _layout = state.Layout;
        _entries = new EntryRepair(state);
        _fresh = fresh;
        _l2 = new CheckedL2Table(state.File, _layout, state.Holes);
        _copy = new byte[_layout.ClusterSize];
        _chunk = new byte[Math.Min(state.Walk.Roots.Max(root => root.Bytes), L1ChunkBytes)];
    }

    /// <summary>True if an entry was changed: count again before anything is built on the counts.</summary>
    internal bool Changed { get; private set; }

    /// <summary>Mends all tables of <paramref name="root"/>.</summary>
    internal async ValueTask RunAsync(GuestTableRoot root)
    {
        if (_state.References.Overflows == 0 && !_roots.Add((root.Offset, root.Entries)))
        {
            return;
        }

        long step;
        for (long start = 0; start < root.Bytes; start += step)
        {
            long place = root.Offset + start;
            step = await _state.Holes.SkippableAsync(place, root.Bytes - start, L1ChunkBytes);
            if (step > 0)
            {
                continue;
            }

            step = Math.Min(root.Bytes - start, L1ChunkBytes);
            Memory<byte> part = _chunk.AsMemory(0, (int)step);
            await _state.File.ReadAsync(place, part);
            if (await MendChunkAsync(part, (int)(start / 8)))
            {
                await _state.File.WriteAsync(place, part);
                Changed = true;
            }
        }
    }

    private async ValueTask<bool> MendChunkAsync(Memory<byte> chunk, int firstIndex)
    {
        bool changed = false;
        for (int i = 0; i < chunk.Length / 8; i++)
        {
            CheckedL1Entry entry = new(BinaryPrimitives.ReadUInt64BigEndian(chunk.Span[(i * 8)..]));
            CheckedL1Entry mended = entry.Raw == 0 ? entry : await MendL1EntryAsync(entry, firstIndex + i);
            BinaryPrimitives.WriteUInt64BigEndian(chunk.Span[(i * 8)..], mended.Raw);
            changed |= mended != entry;
        }

        return changed;
    }

    private async ValueTask<CheckedL1Entry> MendL1EntryAsync(CheckedL1Entry entry, int index)
    {
        CheckedL1Entry mended = entry.WithoutReservedBits;
        long offset = mended.TableOffset;
        if (!_layout.IsAligned(offset))
        {
            long aligned = offset & -_layout.ClusterSize;
            return await _state.IsOrphanAsync(aligned) && await LooksLikeTableAsync(aligned)
                ? new CheckedL1Entry((ulong)aligned).WithCopied(mended.IsCopied)
                : default;
        }

        bool structure = (_state.UsesOf(offset, _layout.ClusterSize) & ClusterUses.Structure) != 0;
        if (offset == 0 || structure || _layout.IsOutside(offset, _layout.ClusterSize))
        {
            return default;
        }

        if (_state.References.TakeOverflow(offset >> _layout.ClusterBits))
        {
            return await CopyTableAsync(offset);
        }

        return await MendL2TableOnceAsync(offset, index) ? mended : default;
    }

    // More owners than the refcount can say: this one gets a table of its own. Its entries are mended in the next round.
    private async ValueTask<CheckedL1Entry> CopyTableAsync(long offset)
    {
        long place = await _fresh.AllocateAsync(1);
        await _state.File.ReadAsync(offset, _copy);
        await _state.File.WriteAsync(place, _copy);
        await _state.File.FlushAsync();
        return new CheckedL1Entry((ulong)place).WithCopied(true);
    }

    // A table whose entries all could be right; tables of guest data hardly ever do.
    private async ValueTask<bool> LooksLikeTableAsync(long offset)
    {
        await _l2.LoadAsync(offset);
        for (int i = _l2.NextUsed(0); i < _layout.L2Entries; i = _l2.NextUsed(i + 1))
        {
            if (_entries.Judge(_l2[i], guestOffset: 0, out _) is not (EntryFate.Kept or EntryFate.CopyAway))
            {
                return false;
            }
        }

        return true;
    }

    // A table that many entries name is mended the first time. Not where its entries depend on the place, and not where the visits take turns in
    // copying what has too many references.
    private async ValueTask<bool> MendL2TableOnceAsync(long offset, int l1Index)
    {
        if (_layout.HasDataFile || _state.References.Overflows > 0)
        {
            return await MendL2TableAsync(offset, l1Index);
        }

        if (!_mended.TryGetValue(offset, out bool isTable))
        {
            isTable = await MendL2TableAsync(offset, l1Index);
            if (_mended.Count < VisitedTables.TablesMax)
            {
                _mended.Add(offset, isTable);
            }
        }

        return isTable;
    }

    // False if the cluster is no L2 table: others use it too, and not every entry could be right. Their bytes stay as they are.
    private async ValueTask<bool> MendL2TableAsync(long offset, int l1Index)
    {
        await _l2.LoadAsync(offset);
        bool othersToo = (_state.UsesOf(offset, _layout.ClusterSize) & ClusterUses.Kinds & ~ClusterUses.L2Table) != 0;
        bool changed = false;
        bool copied = false;
        for (int i = _l2.NextUsed(0); i < _layout.L2Entries; i = _l2.NextUsed(i + 1))
        {
            CheckedL2Entry entry = _l2[i];
            long guest = (l1Index * _layout.L1Coverage) + ((long)i << _layout.ClusterBits);
            EntryFate fate = _entries.Judge(entry, guest, out CheckedL2Entry mended);
            if (fate == EntryFate.Kept)
            {
                continue;
            }

            if (othersToo)
            {
                return false;
            }

            mended = fate switch
            {
                EntryFate.Lost => _entries.Zeros,
                EntryFate.TryAligned => await AlignAsync(mended),
                EntryFate.CopyAway => await CopyAwayAsync(mended),
                _ => mended,
            };
            copied |= fate == EntryFate.CopyAway;
            _l2[i] = mended;
            changed = true;
        }

        if (changed)
        {
            await WriteTableAsync(offset, copied);
        }

        return true;
    }

    private async ValueTask WriteTableAsync(long offset, bool afterFlush)
    {
        if (afterFlush)
        {
            // Refcounts and bytes of the copies are on disk before an entry names them (I2, I3).
            await _state.File.FlushAsync();
        }

        await _l2.StoreAsync(offset);
        Changed = true;
    }

    private async ValueTask<CheckedL2Entry> AlignAsync(CheckedL2Entry entry)
    {
        long aligned = entry.HostOffset & -_layout.ClusterSize;
        return await _state.IsOrphanAsync(aligned) ? entry.WithOffset(aligned) : _entries.Zeros;
    }

    private async ValueTask<CheckedL2Entry> CopyAwayAsync(CheckedL2Entry entry)
    {
        long place = await _fresh.AllocateAsync(1);
        await _state.File.ReadAsync(entry.HostOffset, _copy);
        await _state.File.WriteAsync(place, _copy);
        return entry.WithOffset(place).WithCopied(true);
    }
}
