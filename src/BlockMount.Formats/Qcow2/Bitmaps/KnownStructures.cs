using BlockMount.Formats.Qcow2.OnDisk;

namespace BlockMount.Formats.Qcow2.Bitmaps;

/// <summary>The places that a header names itself: nothing of a bitmap may lie there, and nothing there may be freed as a part of one.</summary>
internal static class KnownStructures
{
    /// <summary>What overlaps [<paramref name="offset"/>, + <paramref name="length"/>), in words; null for nothing.</summary>
    internal static string? FindOverlap(Qcow2Header header, long offset, long length)
    {
        if (Overlaps(0, header.ClusterSize))
        {
            return "the header";
        }

        if (Overlaps(header.L1TableOffset, header.L1Size * 8L))
        {
            return "the L1 table";
        }

        if (Overlaps(header.RefcountTableOffset, (long)header.RefcountTableClusters << header.ClusterBits))
        {
            return "the refcount table";
        }

        // The least that a table of so many entries occupies: its true length is not in the header.
        return Overlaps(header.SnapshotsOffset, (long)header.SnapshotCount * Qcow2Limits.SnapshotEntryBytesMin) ? "the snapshot table" : null;

        bool Overlaps(long start, long size) => size > 0 && offset < start + size && start < offset + length;
    }
}
