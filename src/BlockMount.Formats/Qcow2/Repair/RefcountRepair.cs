using System.Buffers.Binary;
using BlockMount.Formats.Qcow2.Check;
using BlockMount.Formats.Qcow2.OnDisk;

namespace BlockMount.Formats.Qcow2.Repair;

/// <summary>Makes the stored refcounts equal to the counted references (qcow2 specification, "Host cluster management").</summary>
internal sealed class RefcountRepair
{
    private readonly ImageState _state;
    private readonly CheckedLayout _layout;
    private readonly byte[] _block;

    /// <param name="state">Counted; nothing has changed since but refcounts.</param>
    internal RefcountRepair(ImageState state)
    {
        _state = state;
        _layout = state.Layout;
        _block = new byte[_layout.ClusterSize];
    }

    /// <summary>
    /// True if the stored structure cannot take the right refcounts in place: a block is missing, lies at an impossible place, or shares its place or the
    /// table's with something else.
    /// </summary>
    internal async ValueTask<bool> NeedsRebuildAsync()
    {
        if (_layout.RefcountTableClusters == 0 || _layout.IsOutside(_layout.RefcountTableOffset, _layout.RefcountTableBytes)
            || _state.Report.RefcountsNeedRebuild
            || ClusterReferences.IsContested(_state.UsesOf(_layout.RefcountTableOffset, _layout.RefcountTableBytes)))
        {
            return true;
        }

        long end = _state.References.FileClusters;
        for (long cluster = _state.References.NextReferenced(0, end); cluster < end;)
        {
            long block = cluster / _layout.RefcountBlockEntries;
            if (await _state.Stored.TableEntryAsync(block) == 0)
            {
                return true;
            }

            cluster = _state.References.NextReferenced(Math.Min(end, (block + 1) * _layout.RefcountBlockEntries), end);
        }

        return false;
    }

    /// <summary>Increases what is too low, or decreases what is too high; each block that changes is written once. Ends with a flush.</summary>
    internal async ValueTask CorrectAsync(bool increase)
    {
        long blocks = (_state.References.FileClusters + _layout.RefcountBlockEntries - 1) / _layout.RefcountBlockEntries;
        for (long block = await _state.Stored.NextBlockAsync(0); block < blocks; block = await _state.Stored.NextBlockAsync(block + 1))
        {
            ulong entry = await _state.Stored.TableEntryAsync(block);
            if (IsInPlace(entry))
            {
                await CorrectBlockAsync(block, (long)entry, increase);
            }
        }

        await _state.File.FlushAsync();
    }

    /// <summary>
    /// Writes a new refcount structure behind the end of the file, then lets the header name it: a shadow change. Expects a state counted without the old
    /// structure, whose clusters are free afterwards.
    /// </summary>
    internal async ValueTask RebuildAsync()
    {
        RefcountPlan plan = RefcountPlan.Make(_layout, _state.References);
        byte[] table = new byte[plan.TableClusters << _layout.ClusterBits];
        long place = plan.BlocksOffset;
        foreach (long block in plan.Blocks)
        {
            BinaryPrimitives.WriteInt64BigEndian(table.AsSpan((int)(block * 8)), place);
            Array.Clear(_block);
            for (long i = 0; i < _layout.RefcountBlockEntries; i++)
            {
                ulong count = plan.CountOf((block * _layout.RefcountBlockEntries) + i);
                if (count != 0)
                {
                    RefcountEntry.Write(_block, (int)i, _layout.RefcountOrder, count);
                }
            }

            await _state.File.WriteAsync(place, _block);
            place += _layout.ClusterSize;
        }

        await _state.File.WriteAsync(plan.TableOffset, table);
        await _state.File.FlushAsync();
        await HeaderRepair.WriteRefcountTableAsync(_state.File, plan.TableOffset, plan.TableClusters);
    }

    // Blocks that the table gives away wrongly are left alone; then a rebuild follows.
    private bool IsInPlace(ulong entry) => entry != 0 && (entry & ~StoredRefcounts.OffsetMask) == 0 && entry < long.MaxValue
        && _layout.IsAligned((long)entry) && !_layout.IsOutside((long)entry, _layout.ClusterSize);

    private async ValueTask CorrectBlockAsync(long block, long offset, bool increase)
    {
        await _state.File.ReadAsync(offset, _block);
        if (Correct(block, increase))
        {
            await _state.File.WriteAsync(offset, _block);
        }
    }

    private bool Correct(long block, bool increase)
    {
        long first = block * _layout.RefcountBlockEntries;
        long end = Math.Min(first + _layout.RefcountBlockEntries, _state.References.FileClusters);
        bool changed = false;
        for (long cluster = first; cluster < end; cluster++)
        {
            ulong stored = RefcountEntry.Read(_block, (int)(cluster - first), _layout.RefcountOrder);
            ulong count = _state.References.Count(cluster);
            if (increase ? stored < count : stored > count)
            {
                RefcountEntry.Write(_block, (int)(cluster - first), _layout.RefcountOrder, count);
                changed = true;
            }
        }

        return changed;
    }
}
