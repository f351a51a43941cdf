using BlockMount.Formats.Qcow2.OnDisk;

namespace BlockMount.Formats.Qcow2.Metadata;

/// <summary>
/// The active L1 table and the cached slices of its L2 tables: the path from a guest cluster to its L2 entry. Reading takes no lock.
/// </summary>
public sealed class GuestTables
{
    private readonly ImageHealth _health;
    private readonly Geometry _geometry;

    // Replaced only under exclusive use (resize).
    private L1Table _l1;

    public GuestTables(ImageHealth health, Geometry geometry, L1Table l1, MetadataCache l2)
    {
        _health = health;
        _geometry = geometry;
        _l1 = l1;
        L2 = l2;
    }

    /// <summary>The active L1 table.</summary>
    public L1Table L1 => _l1;

    /// <summary>Slices of L2 tables.</summary>
    public MetadataCache L2 { get; }

    /// <summary>Puts a longer L1 table in place. Needs exclusive use.</summary>
    public void Replace(L1Table l1) => _l1 = l1;

    /// <summary>The L1 entry that covers <paramref name="cluster"/>.</summary>
    public L1Entry L1EntryOf(GuestCluster cluster) => _l1.Get(_geometry.L1Index(cluster));

    /// <summary>Finds the cached slice that holds the entry of <paramref name="cluster"/>, in the table that <paramref name="entry"/> names.</summary>
    public bool TryGetSlice(L1Entry entry, GuestCluster cluster, out MetadataSlice slice, out int index) =>
        L2.TryGet(SliceOffset(entry, cluster, out index), out slice);

    /// <summary>Loads the slice that holds the entry of <paramref name="cluster"/>.</summary>
    public ValueTask<MetadataSlice> GetSliceAsync(L1Entry entry, GuestCluster cluster) => L2.GetAsync(SliceOffset(entry, cluster, out _));

    /// <summary>The same, for changing it. Call under the metadata mutex, for a table that may be written in place.</summary>
    public ValueTask<MetadataSlice> GetSliceForWriteAsync(GuestCluster cluster) =>
        L2.GetForWriteAsync(SliceOffset(L1EntryOf(cluster), cluster, out _));

    /// <summary>Index of the cluster's entry in its slice.</summary>
    public int IndexInSlice(GuestCluster cluster) => _geometry.L2Index(cluster) & (_geometry.L2SliceEntries - 1);

    /// <summary>Reads an entry of a slice; any thread, no lock.</summary>
    public L2Entry Read(MetadataSlice slice, int index)
    {
        if (!_geometry.HasSubclusters)
        {
            return new L2Entry(slice.ReadEntry(index));
        }

        (ulong first, ulong second) = slice.ReadWideEntry(index);
        return new L2Entry(first, second);
    }

    /// <summary>Changes an entry of a slice that <see cref="GetSliceForWriteAsync"/> gave. Under the metadata mutex.</summary>
    internal void Write(MetadataSlice slice, int index, L2Entry entry)
    {
        if (_geometry.HasSubclusters)
        {
            slice.WriteWideEntry(index, entry.Raw, entry.Bitmap);
        }
        else
        {
            slice.WriteEntry(index, entry.Raw);
        }
    }

    private long SliceOffset(L1Entry entry, GuestCluster cluster, out int index)
    {
        long table = entry.TableOffset;
        if (_geometry.OffsetInCluster(table) != 0)
        {
            throw _health.Damaged("an L1 entry names an L2 table that is not aligned to a cluster", table, _geometry.OffsetOf(cluster));
        }

        int inTable = _geometry.L2Index(cluster);
        index = inTable & (_geometry.L2SliceEntries - 1);
        return table + ((long)(inTable - index) << _geometry.L2EntryBits);
    }
}
