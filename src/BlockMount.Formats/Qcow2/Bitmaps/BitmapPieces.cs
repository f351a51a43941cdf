using BlockMount.Base;
using BlockMount.Formats.Qcow2.Metadata;
using BlockMount.Storage;

namespace BlockMount.Formats.Qcow2.Bitmaps;

/// <summary>What is done with parts of stored bitmaps: a prefix of the bits, the clusters that they occupy.</summary>
internal static class BitmapPieces
{
    /// <summary>Reads bytes of a bitmap of which only the first <paramref name="bits"/> bits count; the rest reads as zeros.</summary>
    internal static async ValueTask ReadPrefixAsync(BitmapReader reader, long bits, long offset, Memory<byte> bytes)
    {
        long firstLost = bits - (offset * 8);
        int whole = (int)Math.Clamp((firstLost + 7) / 8, 0, bytes.Length);
        bytes[whole..].Span.Clear();
        if (whole == 0)
        {
            return;
        }

        await reader.ReadAsync(offset, bytes[..whole]);
        if (firstLost < whole * 8L)
        {
            bytes.Span[whole - 1] &= (byte)((1 << (int)(firstLost % 8)) - 1);
        }
    }

    /// <summary>
    /// The clusters of a bitmap that is about to be dropped, for freeing. None if its table is damaged or leads to other metadata:
    /// then nobody knows whose clusters these are, and a leak is the smaller harm.
    /// </summary>
    internal static async ValueTask<IReadOnlyList<HostRun>> ClustersOfAsync(StorageFile file, Geometry geometry, OverlapChecks checks, StoredBitmap bitmap)
    {
        if (bitmap.Defect is not null)
        {
            return [];
        }

        var runs = new List<HostRun>();
        BitmapReader reader = new(file, geometry.ClusterSize, bitmap);
        try
        {
            for (long i = 0; i < bitmap.TableEntries; i++)
            {
                (long offset, bool _) = await reader.EntryAsync(i);
                if (offset != 0)
                {
                    Add(runs, geometry.HostClusterOf(offset));
                }
            }
        }
        catch (BlockIOException error) when (error.Errno == Errno.EIO)
        {
            return [];
        }

        runs.Add(new HostRun(
            geometry.HostClusterOf((long)bitmap.TableOffset), geometry.ClustersFor(bitmap.TableEntries * (long)sizeof(ulong))));
        return runs.TrueForAll(run => checks.DataLength(geometry.OffsetOf(run.Start), run.Count << geometry.ClusterBits) == run.Count << geometry.ClusterBits)
            ? runs
            : [];
    }

    private static void Add(List<HostRun> runs, HostCluster cluster)
    {
        if (runs.Count > 0 && runs[^1].End == cluster)
        {
            runs[^1] = new HostRun(runs[^1].Start, runs[^1].Count + 1);
        }
        else
        {
            runs.Add(new HostRun(cluster, 1));
        }
    }
}
