using BlockMount.Formats.Qcow2.OnDisk;

namespace BlockMount.Tests.Formats;

/// <summary>A small valid image as bytes, for tests that then break one thing.</summary>
internal static class HeaderSamples
{
    public const int ClusterSize = 65536;

    /// <summary>Length of a file that holds every table of <see cref="Header"/>.</summary>
    public const long FileLength = 8 * ClusterSize;

    /// <summary>1 GiB disk, clusters of 64 KiB, refcount table in cluster 1, L1 table in cluster 3.</summary>
    public static Qcow2Header Header => new()
    {
        Version = 3,
        ClusterBits = 16,
        Size = 1L << 30,
        L1Size = 2,
        L1TableOffset = 3 * ClusterSize,
        RefcountTableOffset = ClusterSize,
        RefcountTableClusters = 1,
        Extensions = [FeatureNameTable.Create()],
    };

    /// <summary>The first cluster of an image with <paramref name="header"/>.</summary>
    public static byte[] Bytes(Qcow2Header header)
    {
        byte[] cluster = new byte[header.ClusterSize];
        Qcow2HeaderWriter.Write(header).CopyTo(cluster, 0);
        return cluster;
    }
}
