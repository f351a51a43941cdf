using BlockMount.Formats.Qcow2.Check;
using BlockMount.Storage;

namespace BlockMount.Formats.Qcow2.Repair;

/// <summary>
/// An image as one count of its references found it; valid until the repair changes something. Unlike a check it counts all clusters at the same time:
/// 3 bytes for each (48 MiB for 1 TiB with 64 KiB clusters), as far as something refers to them or to their neighbours.
/// </summary>
internal sealed class ImageState
{
    /// <summary>A file with more clusters cannot be repaired.</summary>
    internal static readonly long ClustersMax = Array.MaxLength - 1L;

    private ImageState(StorageFile file, CheckedLayout layout, SnapshotList snapshots, CheckMemory memory)
    {
        File = file;
        Layout = layout;
        Snapshots = snapshots;
        Report = new CheckReport();
        Holes = new HoleMap(file);
        Stored = new StoredRefcounts(file, layout, Holes, memory);
        References = new ClusterReferences(layout, Report, Array.MaxLength, memory);
        Walk = new ReferenceWalk(file, layout, Holes, snapshots, References, Stored, Report);
        LostL1 = new LostL1Tables(this);
    }

    internal StorageFile File { get; }

    internal CheckedLayout Layout { get; }

    internal SnapshotList Snapshots { get; }

    /// <summary>To be told to forget when something was written.</summary>
    internal HoleMap Holes { get; }

    internal StoredRefcounts Stored { get; }

    internal ClusterReferences References { get; }

    internal ReferenceWalk Walk { get; }

    internal CheckReport Report { get; }

    internal LostL1Tables LostL1 { get; }

    /// <param name="memory">What was counted into it before must not be used any more.</param>
    /// <param name="countRefcountStructure">False leaves out the references to the refcount table and its blocks, because they are to be made anew.</param>
    internal static async ValueTask<ImageState> CountAsync(StorageFile file, CheckMemory memory, bool countRefcountStructure = true)
    {
        CheckedLayout layout = await CheckedLayout.ReadAsync(file);
        ImageState state = new(file, layout, await SnapshotList.ReadAsync(file, layout), memory);
        await state.Walk.RunAsync(progress: null, countRefcountStructure);
        return state;
    }

    /// <summary>The users of all clusters that the range touches, taken together.</summary>
    internal ClusterUses UsesOf(long offset, long length)
    {
        ClusterUses uses = ClusterUses.None;
        if (Layout.IsOutside(offset, length))
        {
            return uses;
        }

        for (long cluster = offset >> Layout.ClusterBits; cluster <= (offset + length - 1) >> Layout.ClusterBits; cluster++)
        {
            uses |= References.Holds(cluster) ? References.Uses(cluster) : ClusterUses.None;
        }

        return uses;
    }

    /// <summary>
    /// True if the image holds the aligned cluster at <paramref name="offset"/> for somebody, and a single reference touches it: the one that asks.
    /// </summary>
    internal async ValueTask<bool> IsOrphanAsync(long offset)
    {
        long cluster = offset >> Layout.ClusterBits;
        return offset != 0 && References.Holds(cluster) && !Layout.IsOutside(offset, Layout.ClusterSize)
            && References.Count(cluster) == 1 && await Stored.GetAsync(cluster) != 0;
    }
}
