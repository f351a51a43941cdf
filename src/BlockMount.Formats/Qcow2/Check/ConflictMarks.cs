using BlockMount.Formats.Qcow2.OnDisk;

namespace BlockMount.Formats.Qcow2.Check;

/// <summary>
/// Once everything is counted and compared: finds the entries of L2 tables whose clusters have owners that exclude each other, so that the report can name
/// the guest ranges. Single-threaded.
/// </summary>
internal sealed class ConflictMarks
{
    private readonly CheckedLayout _layout;
    private readonly ClusterReferences _references;
    private readonly CheckedL2Table _l2;
    private readonly TableVisit _visit;

    /// <param name="l2">Room for the table, shared with nobody who works at the same time.</param>
    /// <param name="visit">Where the walk is.</param>
    internal ConflictMarks(CheckedLayout layout, ClusterReferences references, CheckedL2Table l2, TableVisit visit)
    {
        _layout = layout;
        _references = references;
        _l2 = l2;
        _visit = visit;
    }

    /// <summary>Marks what the L2 table at <paramref name="offset"/> describes.</summary>
    internal async ValueTask MarkAsync(long offset)
    {
        if (IsContested(offset >> _layout.ClusterBits))
        {
            _visit.DamageL1Entry();
        }

        if (_layout.HasDataFile)
        {
            return;
        }

        await _l2.LoadAsync(offset);
        for (int index = _l2.NextUsed(0); index < _layout.L2Entries; index = _l2.NextUsed(index + 1))
        {
            MarkEntry(_l2[index], index);
        }
    }

    private void MarkEntry(CheckedL2Entry entry, int index)
    {
        ClusterKind kind = entry.Kind(_layout);
        (long offset, long length) = kind == ClusterKind.Compressed ? entry.CompressedSectors(_layout) : (entry.HostOffset, _layout.ClusterSize);
        bool holdsBytes = kind == ClusterKind.Compressed || (kind is ClusterKind.Normal or ClusterKind.ZeroAllocated && entry.ContainsData(_layout));
        if (!holdsBytes || _layout.IsOutside(offset, length))
        {
            return;
        }

        for (long cluster = offset >> _layout.ClusterBits; cluster <= (offset + length - 1) >> _layout.ClusterBits; cluster++)
        {
            if (IsContested(cluster))
            {
                _visit.DamageL2Entry(index);
                return;
            }
        }
    }

    private bool IsContested(long cluster) => _references.Holds(cluster) && ClusterReferences.IsContested(_references.Uses(cluster));
}
