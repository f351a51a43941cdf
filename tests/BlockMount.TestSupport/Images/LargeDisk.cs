using System.Buffers.Binary;
using System.Text;

namespace BlockMount.TestSupport.Images;

/// <summary>
/// A chain of qcow2 images of 1 TiB with clusters of 64 KiB, each with all of its 2048 L2 tables (128 MiB), and with data all over the disk: in the base every second
/// cluster, so that no two pieces of it lie together, and in each image above one cluster in every fourth table. So the tables of all images are 8 GiB, and a map of
/// what they say some 200 MiB. Host files are sparse: a chain of 64 takes about 300 MiB. Data reads as zeros, but for the base's first cluster
/// in each <see cref="MarkEvery"/>th table, which starts with its guest offset.
/// </summary>
public static class LargeDisk
{
    /// <summary>Size of the disk.</summary>
    public const long Size = 1L << 40;

    /// <summary>Tables from one mark to the next.</summary>
    public const int MarkEvery = 64;

    /// <summary>What one L2 table maps.</summary>
    public const long TableSpan = L2Entries * (long)ClusterSize;

    private const int ClusterSize = 64 << 10;
    private const int L2Entries = ClusterSize / sizeof(ulong);
    private const int L2Tables = (int)(Size / TableSpan);
    private const int BlockEntries = ClusterSize / sizeof(ushort);
    private const ulong Copied = 1UL << 63;

    /// <summary>Writes "large0" (the base), "large1", ... into <paramref name="folder"/>.</summary>
    /// <param name="depth">Images.</param>
    /// <returns>Path of the top.</returns>
    public static string WriteChain(ScratchFolder folder, int depth)
    {
        using (FileStream file = new(folder["large0"], FileMode.CreateNew, FileAccess.ReadWrite, FileShare.None, bufferSize: 0))
        {
            long firstData = WriteFrame(file, backing: null, (long)L2Tables * (L2Entries / 2));
            WriteBase(file, firstData);
        }

        for (int layer = 1; layer < depth; layer++)
        {
            using FileStream file = new(folder[$"large{layer}"], FileMode.CreateNew, FileAccess.ReadWrite, FileShare.None, bufferSize: 0);
            long firstData = WriteFrame(file, $"large{layer - 1}", L2Tables / 4);
            WriteLayer(file, firstData, layer);
        }

        return folder[$"large{depth - 1}"];
    }

    private static void WriteBase(FileStream file, long firstData)
    {
        byte[] table = new byte[ClusterSize];
        byte[] mark = new byte[sizeof(long)];
        for (int number = 0; number < L2Tables; number++)
        {
            long first = firstData + ((long)number * (L2Entries / 2));
            for (int i = 0; i < L2Entries; i += 2)
            {
                BinaryPrimitives.WriteUInt64BigEndian(table.AsSpan(i * sizeof(ulong)), Entry(first + (i / 2)));
            }

            Write(file, TableOffset(firstData, number), table);
            if (number % MarkEvery == 0)
            {
                BinaryPrimitives.WriteInt64BigEndian(mark, number * TableSpan);
                Write(file, first * ClusterSize, mark);
            }
        }
    }

    // Never the first cluster of a table, where the marks are.
    private static void WriteLayer(FileStream file, long firstData, int layer)
    {
        Random random = new(layer);
        byte[] entry = new byte[sizeof(ulong)];
        for (int i = 0; i < L2Tables / 4; i++)
        {
            BinaryPrimitives.WriteUInt64BigEndian(entry, Entry(firstData + i));
            Write(file, TableOffset(firstData, (i * 4) + (layer % 4)) + (random.Next(1, L2Entries) * sizeof(ulong)), entry);
        }
    }

    /// <summary>Header, refcount table, L1 table, refcount blocks, then room for the L2 tables and the data.</summary>
    /// <returns>Number of the first data cluster.</returns>
    private static long WriteFrame(FileStream file, string? backing, long dataClusters)
    {
        const int FirstBlock = 3;
        int blocks = (int)((FirstBlock + L2Tables + dataClusters) / (BlockEntries - 1)) + 1;
        long firstData = FirstBlock + blocks + L2Tables;
        file.SetLength((firstData + dataClusters) * ClusterSize);
        Write(file, 0, Header(backing));
        Write(file, ClusterSize, Entries(blocks, i => (ulong)(FirstBlock + i) * ClusterSize));
        Write(file, 2 * ClusterSize, Entries(L2Tables, i => (ulong)TableOffset(firstData, i) | Copied));
        byte[] counts = new byte[ClusterSize];
        for (int block = 0; block < blocks; block++)
        {
            int used = (int)Math.Min(BlockEntries, firstData + dataClusters - ((long)block * BlockEntries));
            counts.AsSpan().Clear();
            for (int i = 0; i < used; i++)
            {
                counts[(i * sizeof(ushort)) + 1] = 1;
            }

            Write(file, (long)(FirstBlock + block) * ClusterSize, counts);
        }

        return firstData;
    }

    private static byte[] Header(string? backing)
    {
        const int Length = 104;
        const int BackingOffset = 512;
        byte[] header = new byte[1024];
        BinaryPrimitives.WriteUInt32BigEndian(header, 0x514649fb);
        BinaryPrimitives.WriteInt32BigEndian(header.AsSpan(4), 3);
        BinaryPrimitives.WriteInt64BigEndian(header.AsSpan(8), backing is null ? 0 : BackingOffset);
        BinaryPrimitives.WriteInt32BigEndian(header.AsSpan(16), backing?.Length ?? 0);
        BinaryPrimitives.WriteInt32BigEndian(header.AsSpan(20), 16);
        BinaryPrimitives.WriteInt64BigEndian(header.AsSpan(24), Size);
        BinaryPrimitives.WriteInt32BigEndian(header.AsSpan(36), L2Tables);
        BinaryPrimitives.WriteInt64BigEndian(header.AsSpan(40), 2 * ClusterSize);
        BinaryPrimitives.WriteInt64BigEndian(header.AsSpan(48), ClusterSize);
        BinaryPrimitives.WriteInt32BigEndian(header.AsSpan(56), 1);
        BinaryPrimitives.WriteInt32BigEndian(header.AsSpan(96), 4);
        BinaryPrimitives.WriteInt32BigEndian(header.AsSpan(100), Length);
        if (backing is not null)
        {
            // The extension with the format of the backing file.
            BinaryPrimitives.WriteUInt32BigEndian(header.AsSpan(Length), 0xE2792ACA);
            BinaryPrimitives.WriteInt32BigEndian(header.AsSpan(Length + 4), 5);
            Encoding.ASCII.GetBytes("qcow2", header.AsSpan(Length + 8));
            Encoding.ASCII.GetBytes(backing, header.AsSpan(BackingOffset));
        }

        return header;
    }

    private static long TableOffset(long firstData, int number) => (firstData - L2Tables + number) * ClusterSize;

    private static ulong Entry(long cluster) => ((ulong)cluster * ClusterSize) | Copied;

    private static byte[] Entries(int count, Func<int, ulong> entry)
    {
        byte[] table = new byte[count * sizeof(ulong)];
        for (int i = 0; i < count; i++)
        {
            BinaryPrimitives.WriteUInt64BigEndian(table.AsSpan(i * sizeof(ulong)), entry(i));
        }

        return table;
    }

    private static void Write(FileStream file, long offset, ReadOnlySpan<byte> bytes) => RandomAccess.Write(file.SafeFileHandle, bytes, offset);
}
