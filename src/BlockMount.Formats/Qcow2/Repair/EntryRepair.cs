using BlockMount.Formats.Qcow2.Check;
using BlockMount.Formats.Qcow2.OnDisk;

namespace BlockMount.Formats.Qcow2.Repair;

/// <summary>What becomes of an L2 entry.</summary>
internal enum EntryFate
{
    /// <summary>It stays, or only bits without meaning go.</summary>
    Kept,

    /// <summary>It was wrong and the right value is known.</summary>
    Mended,

    /// <summary>Nobody can know where the data is; the range reads as zeros from now on.</summary>
    Lost,

    /// <summary>
    /// Its cluster belongs to a structure, or has more owners than its refcount can say: the bytes are copied elsewhere, and the others keep the place.
    /// </summary>
    CopyAway,

    /// <summary>It is not aligned; if the cluster at the aligned place has lost its owner, that is the one.</summary>
    TryAligned,
}

/// <summary>
/// Decides what becomes of L2 entries (qcow2 specification, "L2 table entry"). Takes what can be read for right, and makes zeros of what cannot, because
/// an old backing file's content in its place could be taken for the data.
/// </summary>
internal sealed class EntryRepair
{
    private const ulong AllSubclustersZero = 0xffffffff00000000;

    private readonly ImageState _state;
    private readonly CheckedLayout _layout;

    internal EntryRepair(ImageState state)
    {
        _state = state;
        _layout = state.Layout;
    }

    /// <summary>The entry that reads as zeros; in version 2, which has none, the one that lets the backing file show through.</summary>
    internal CheckedL2Entry Zeros => _layout.HasSubclusters
        ? new CheckedL2Entry(0, AllSubclustersZero)
        : new CheckedL2Entry(_layout.Version == 2 ? 0 : CheckedL2Entry.ZeroBit, 0);

    /// <summary>Decides about <paramref name="entry"/>, which describes the guest cluster at <paramref name="guestOffset"/>.</summary>
    internal EntryFate Judge(CheckedL2Entry entry, long guestOffset, out CheckedL2Entry mended)
    {
        if (entry.Kind(_layout) == ClusterKind.Compressed)
        {
            return JudgeCompressed(entry, out mended);
        }

        mended = entry.WithoutReservedBits;
        mended = mended.HasReservedZeroBit(_layout) ? mended with { Word = mended.Word & ~CheckedL2Entry.ZeroBit } : mended;
        if (mended.Kind(_layout) is ClusterKind.Normal or ClusterKind.ZeroAllocated)
        {
            // Bytes rather than zeros: what is there can be looked at.
            mended = mended with { Bitmap = mended.Bitmap & ~((ulong)mended.ContradictorySubclusters << 32) };
            return _layout.HasDataFile ? JudgeDataFile(entry, guestOffset, ref mended) : JudgeAllocated(entry, ref mended);
        }

        if (mended.Kind(_layout) == ClusterKind.Unallocated)
        {
            mended = mended with { Word = 0, Bitmap = mended.Bitmap & AllSubclustersZero };
        }

        return mended == entry ? EntryFate.Kept : EntryFate.Mended;
    }

    private EntryFate JudgeCompressed(CheckedL2Entry entry, out CheckedL2Entry mended)
    {
        mended = new CheckedL2Entry(entry.Word & ~CheckedL2Entry.CopiedBit, 0);
        (long offset, long length) = entry.CompressedSectors(_layout);
        bool inStructure = (_state.UsesOf(offset, length) & ClusterUses.Structure) != 0;
        if (_layout.HasDataFile || _layout.IsOutside(offset, length) || inStructure)
        {
            mended = Zeros;
            return EntryFate.Lost;
        }

        return mended == entry ? EntryFate.Kept : EntryFate.Mended;
    }

    private static EntryFate JudgeDataFile(CheckedL2Entry entry, long guestOffset, ref CheckedL2Entry mended)
    {
        mended = mended.WithOffset(guestOffset).WithCopied(true);
        return mended == entry ? EntryFate.Kept : EntryFate.Mended;
    }

    private EntryFate JudgeAllocated(CheckedL2Entry entry, ref CheckedL2Entry mended)
    {
        bool misplaced = !_layout.IsAligned(mended.HostOffset) || _layout.IsOutside(mended.HostOffset, _layout.ClusterSize);
        if (misplaced && !mended.ContainsData(_layout))
        {
            // The cluster only kept space. Subclusters that show the backing file go on doing so.
            mended = _layout.HasSubclusters ? new CheckedL2Entry(0, mended.Bitmap) : Zeros;
            return EntryFate.Mended;
        }

        if (misplaced)
        {
            return _layout.IsAligned(mended.HostOffset) ? EntryFate.Lost : EntryFate.TryAligned;
        }

        if ((_state.UsesOf(mended.HostOffset, _layout.ClusterSize) & ClusterUses.Structure) != 0
            || _state.References.TakeOverflow(mended.HostOffset >> _layout.ClusterBits))
        {
            return EntryFate.CopyAway;
        }

        return mended == entry ? EntryFate.Kept : EntryFate.Mended;
    }
}
