using System.Diagnostics;
using System.Runtime.CompilerServices;
using BlockMount.Formats.Qcow2.OnDisk;

namespace BlockMount.Formats.Qcow2.Check;

/// <summary>
/// Counts what one L1 entry refers to, the L2 table with all its entries, and checks each entry on the way (qcow2 specification, "Cluster mapping").
/// Single-threaded.
/// </summary>
internal sealed class L2TableCount : IFindingList
{
    private readonly CheckedLayout _layout;
    private readonly ClusterReferences _references;
    private readonly StoredRefcounts _stored;
    private readonly CheckReport _report;
    private readonly CheckedL2Table _l2;
    private readonly TableVisit _visit;

    // Of the table being counted: compare the COPIED flags; where the next cluster would lie if nothing were fragmented.
    private bool _copiedIsChecked;
    private long _nextContiguous;

    /// <param name="l2">Room for the table, shared with nobody who works at the same time.</param>
    /// <param name="visit">Where the walk is.</param>
    internal L2TableCount(CheckedLayout layout, ClusterReferences references, StoredRefcounts stored, CheckReport report, CheckedL2Table l2, TableVisit visit)
    {
        _layout = layout;
        _references = references;
        _stored = stored;
        _report = report;
        _l2 = l2;
        _visit = visit;
    }

    /// <inheritdoc/>
    public bool IsListing => _references.IsListing;

    private bool IsStatistic => _visit.Root.IsActive && _references.IsFirstWindow;

    /// <summary>Counts <paramref name="entry"/>, which lies at the host offset <paramref name="place"/>, and its table.</summary>
    internal async ValueTask CountAsync(CheckedL1Entry entry, long place)
    {
        CountL1Entry(entry, place);
        _copiedIsChecked = _visit.Root.IsActive && entry.TableOffset != 0 && await CheckCopiedAsync(entry, place);
        await _l2.LoadAsync(entry.TableOffset);
        _nextContiguous = 0;
        int index = 0;
        while (true)
        {
            long missingBlock = CountEntries(ref index);
            if (missingBlock < 0)
            {
                return;
            }

            await _stored.LoadAsync(missingBlock);
        }
    }

    private void CountL1Entry(CheckedL1Entry entry, long place)
    {
        if (entry.HasReservedBits)
        {
            Report(CheckFindingKind.ReservedBits, place, $"L1 entry {_visit.L1Index} is {entry.Raw:x}");
        }

        bool aligned = _layout.IsAligned(entry.TableOffset);
        bool usable = Add(entry.TableOffset, _layout.ClusterSize, aligned ? ClusterUses.L2Table : ClusterUses.None, place);
        if (!aligned)
        {
            Report(CheckFindingKind.Misaligned, place, $"the entry at {place} refers to an L2 table at {entry.TableOffset}, which is no multiple of {_layout.ClusterSize}");
            usable = false;
        }

        if (!usable || entry.TableOffset == 0)
        {
            _visit.DamageL1Entry();
        }
    }

    // False if nobody knows the table's refcount; its entries are not compared then.
    private async ValueTask<bool> CheckCopiedAsync(CheckedL1Entry entry, long place)
    {
        if (!_references.IsFirstWindow)
        {
            return false;
        }

        long cluster = entry.TableOffset >> _layout.ClusterBits;
        await _stored.LoadAsync(cluster / _layout.RefcountBlockEntries);
        bool held = _stored.TryGet(cluster, out ulong refcount, out BlockState state);
        Debug.Assert(held);
        if (state == BlockState.Misaligned)
        {
            return false;
        }

        if (refcount == 1 != entry.IsCopied)
        {
            ReportCopied(entry.IsCopied, place, entry.TableOffset, refcount);
        }

        return true;
    }

    // Goes on at index, to the end of the table or to the first entry that needs a refcount block; that block, or -1 at the end.
    private long CountEntries(ref int index)
    {
        for (index = _l2.NextUsed(index); index < _layout.L2Entries; index = _l2.NextUsed(index + 1))
        {
            CheckedL2Entry entry = _l2[index];
            ClusterKind kind = entry.Kind(_layout);
            ulong refcount = 1;
            bool compare = _copiedIsChecked && (kind is ClusterKind.Normal or ClusterKind.ZeroAllocated);
            if (compare && !_layout.HasDataFile)
            {
                long cluster = entry.HostOffset >> _layout.ClusterBits;
                if (!_stored.TryGet(cluster, out refcount, out BlockState state))
                {
                    return cluster / _layout.RefcountBlockEntries;
                }

                compare = state != BlockState.Misaligned;
            }

            CountEntry(entry, kind, index);
            if (compare && refcount == 1 != entry.IsCopied)
            {
                ReportCopied(entry.IsCopied, _l2.PlaceOf(index), entry.HostOffset, refcount);
            }
        }

        return -1;
    }

    private void CountEntry(CheckedL2Entry entry, ClusterKind kind, int index)
    {
        if (kind == ClusterKind.Compressed)
        {
            CountCompressed(entry, index);
            return;
        }

        if (entry.HasReservedBits)
        {
            Report(CheckFindingKind.ReservedBits, _l2.PlaceOf(index), $"the L2 entry at {_l2.PlaceOf(index)} is {entry.Word:x}");
        }

        if (entry.HasReservedZeroBit(_layout))
        {
            Report(CheckFindingKind.ReservedBits, _l2.PlaceOf(index), $"the L2 entry at {_l2.PlaceOf(index)} is {entry.Word:x}: bit 0 has no meaning here", knownToQemu: false);
        }

        if (kind is ClusterKind.Normal or ClusterKind.ZeroAllocated)
        {
            CountAllocated(entry, index);
        }
        else if (kind == ClusterKind.Unallocated && entry.AllocatedSubclusters != 0)
        {
            Report(CheckFindingKind.ReservedBits, _l2.PlaceOf(index), $"the L2 entry at {_l2.PlaceOf(index)} has no cluster and allocated subclusters {entry.AllocatedSubclusters:x}");
            _visit.DamageL2Entry(index);
        }
    }

    private void CountAllocated(CheckedL2Entry entry, int index)
    {
        if (entry.ContradictorySubclusters != 0)
        {
            Report(CheckFindingKind.ReservedBits, _l2.PlaceOf(index), $"the L2 entry at {_l2.PlaceOf(index)} has subclusters {entry.ContradictorySubclusters:x} that are both allocated and zero");
            _visit.DamageL2Entry(index);
        }

        bool aligned = _layout.IsAligned(entry.HostOffset);
        if (!aligned)
        {
            Report(CheckFindingKind.Misaligned, _l2.PlaceOf(index), $"the entry at {_l2.PlaceOf(index)} refers to a data cluster at {entry.HostOffset}, which is no multiple of {_layout.ClusterSize}");
            _visit.DamageL2Entry(index);
        }

        if (IsStatistic)
        {
            _report.AllocatedClusters += _visit.Times;
            _report.FragmentedClusters += _nextContiguous != 0 && entry.HostOffset != _nextContiguous ? _visit.Times : 0;
            _nextContiguous = entry.HostOffset + _layout.ClusterSize;
        }

        if (_layout.HasDataFile)
        {
            CheckIdentity(entry, index);
        }
        else if (!Add(entry.HostOffset, _layout.ClusterSize, aligned ? ClusterUses.Data : ClusterUses.None, _l2.PlaceOf(index)))
        {
            _visit.DamageL2Entry(index);
        }
    }

    private void CheckIdentity(CheckedL2Entry entry, int index)
    {
        long guest = _visit.GuestOffset(index);
        if (_layout.IsAligned(entry.HostOffset) && entry.HostOffset != guest)
        {
            Report(
                CheckFindingKind.Misaligned, _l2.PlaceOf(index), $"the entry at {_l2.PlaceOf(index)} refers to {entry.HostOffset} of the data file, the guest offset is {guest}", knownToQemu: false);
            _visit.DamageL2Entry(index);
        }
    }

    private void CountCompressed(CheckedL2Entry entry, int index)
    {
        long place = _l2.PlaceOf(index);
        if (entry.IsCopied)
        {
            Report(CheckFindingKind.CopiedFlag, place, $"the L2 entry at {place} is {entry.Word:x}: a compressed cluster is never COPIED");
        }

        if (_layout.HasDataFile || entry.Bitmap != 0)
        {
            Report(CheckFindingKind.ReservedBits, place, $"the L2 entry at {place} is {entry.Word:x} {entry.Bitmap:x}: compressed, {(_layout.HasDataFile ? "in an image with a data file" : "with subclusters")}");
            _visit.DamageL2Entry(index);
            return;
        }

        if (IsStatistic)
        {
            _report.AllocatedClusters += _visit.Times;
            _report.CompressedClusters += _visit.Times;
            _report.FragmentedClusters += _visit.Times;
        }

        (long offset, long length) = entry.CompressedSectors(_layout);
        if (!Add(offset, length, ClusterUses.Compressed, place))
        {
            _visit.DamageL2Entry(index);
        }
    }

    private bool Add(long offset, long length, ClusterUses use, long place) => _references.Add(offset, length, use, _visit.Root.IsActive, place, _visit.Times);

    private void ReportCopied(bool copied, long place, long offset, ulong refcount) => Report(
        CheckFindingKind.CopiedFlag, place, $"COPIED is {(copied ? 1 : 0)} in the entry at {place}, and the refcount of the cluster at {offset} is {refcount}");

    private void Report(
        CheckFindingKind kind, long hostOffset, [InterpolatedStringHandlerArgument("")] ref FindingText description, bool knownToQemu = true) =>
        _references.Report(kind, hostOffset, ref description, knownToQemu, _visit.Times);
}
