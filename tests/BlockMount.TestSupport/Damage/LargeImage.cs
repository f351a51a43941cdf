using System.Buffers.Binary;

namespace BlockMount.TestSupport.Damage;

/// <summary>
/// Writes a qcow2 image of 1 TiB with clusters of 64 KiB, every guest cluster mapped: header, refcount table, L1 table, 513 refcount blocks, 2048 L2 tables. The
/// data is a hole, so that the file needs 160 MiB.
/// </summary>
public static class LargeImage
{
    private const int ClusterSize = 64 << 10;
    private const long VirtualSize = 1L << 40;
    private const int L2Entries = ClusterSize / 8;
    private const int L2Tables = (int)(VirtualSize / ClusterSize / L2Entries);
    private const int BlockEntries = ClusterSize / 2;
    private const int FirstBlock = 3;
    private const int Blocks = 513;
    private const long FirstL2Table = FirstBlock + Blocks;
    private const long FirstData = FirstL2Table + L2Tables;
    private const long Clusters = FirstData + (VirtualSize / ClusterSize);
    private const ulong Copied = 1UL << 63;

    /// <summary>Makes the file.</summary>
    public static async Task WriteAsync(string path)
    {
        await using FileStream file = new(path, FileMode.Create, FileAccess.Write);
        file.SetLength(Clusters * ClusterSize);
        await file.WriteAsync(Header());
        byte[] cluster = new byte[ClusterSize];
        await WriteClusterAsync(file, 1, cluster, i => i < Blocks ? (ulong)(FirstBlock + i) * ClusterSize : 0);
        await WriteClusterAsync(file, 2, cluster, i => i < L2Tables ? ((ulong)(FirstL2Table + i) * ClusterSize) | Copied : 0);
        for (int block = 0; block < Blocks; block++)
        {
            int first = block * BlockEntries;
            for (int i = 0; i < BlockEntries; i++)
            {
                BinaryPrimitives.WriteUInt16BigEndian(cluster.AsSpan(i * 2), (ushort)(first + i < Clusters ? 1 : 0));
            }

            await WriteAtAsync(file, FirstBlock + block, cluster);
        }

        for (int table = 0; table < L2Tables; table++)
        {
            long first = FirstData + ((long)table * L2Entries);
            await WriteClusterAsync(file, FirstL2Table + table, cluster, i => ((ulong)(first + i) * ClusterSize) | Copied);
        }
    }

    /// <summary>Takes a refcount block away and the COPIED flags of an L2 table, and maps a guest cluster outside the file.</summary>
    public static async Task HarmAsync(string path)
    {
        await using FileStream file = new(path, FileMode.Open, FileAccess.Write);
        file.Position = ClusterSize + (300 * 8);
        await file.WriteAsync(new byte[8]);
        byte[] cluster = new byte[ClusterSize];
        long first = FirstData + (700L * L2Entries);
        await WriteClusterAsync(file, FirstL2Table + 700, cluster, i => i == 5 ? (1UL << 50) | Copied : (ulong)(first + i) * ClusterSize);
    }

    private static byte[] Header()
    {
        byte[] header = new byte[104];
        BinaryPrimitives.WriteUInt32BigEndian(header, 0x514649fb);
        BinaryPrimitives.WriteInt32BigEndian(header.AsSpan(4), 3);
        BinaryPrimitives.WriteInt32BigEndian(header.AsSpan(20), 16);
        BinaryPrimitives.WriteInt64BigEndian(header.AsSpan(24), VirtualSize);
        BinaryPrimitives.WriteInt32BigEndian(header.AsSpan(36), L2Tables);
        BinaryPrimitives.WriteInt64BigEndian(header.AsSpan(40), 2 * ClusterSize);
        BinaryPrimitives.WriteInt64BigEndian(header.AsSpan(48), ClusterSize);
        BinaryPrimitives.WriteInt32BigEndian(header.AsSpan(56), 1);
        BinaryPrimitives.WriteInt32BigEndian(header.AsSpan(96), 4);
        BinaryPrimitives.WriteInt32BigEndian(header.AsSpan(100), header.Length);
        return header;
    }

    private static Task WriteClusterAsync(FileStream file, long number, byte[] cluster, Func<int, ulong> entry)
    {
        for (int i = 0; i < cluster.Length / 8; i++)
        {
            BinaryPrimitives.WriteUInt64BigEndian(cluster.AsSpan(i * 8), entry(i));
        }

        return WriteAtAsync(file, number, cluster);
    }

    private static async Task WriteAtAsync(FileStream file, long number, byte[] cluster)
    {
        file.Position = number * ClusterSize;
        await file.WriteAsync(cluster);
    }
}
