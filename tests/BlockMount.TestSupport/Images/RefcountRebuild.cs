using System.Buffers.Binary;
using BlockMount.Storage;

namespace BlockMount.TestSupport.Images;

/// <summary>
/// Repairs a dirty image the simple way, independently of the code under test: counts the references of every cluster and stores the counts. For
/// small images whose refcount blocks exist.
/// </summary>
public static class RefcountRebuild
{
    private const ulong OffsetMask = 0x00ff_ffff_ffff_fe00;
    private const ulong Compressed = 1UL << 62;
    private const int IncompatibleFeatures = 72;

    /// <summary>Rebuilds the refcounts in <paramref name="file"/>, then clears the dirty bit, with a flush before and after.</summary>
    public static async ValueTask RunAsync(StorageFile file)
    {
        byte[] image = new byte[file.Length];
        await file.ReadAsync(0, image);
        byte[] before = [.. image];
        Store(image, Count(image));
        for (int offset = 0; offset < image.Length; offset += 512)
        {
            int length = Math.Min(512, image.Length - offset);
            if (!image.AsSpan(offset, length).SequenceEqual(before.AsSpan(offset, length)))
            {
                await file.WriteAsync(offset, image.AsMemory(offset, length));
            }
        }

        await file.FlushAsync();
        image[IncompatibleFeatures + 7] &= 0xfe;
        await file.WriteAsync(IncompatibleFeatures, image.AsMemory(IncompatibleFeatures, 8));
        await file.FlushAsync();
    }

    /// <summary>The dirty bit is set.</summary>
    public static bool IsDirty(ReadOnlySpan<byte> image) => image[7] >= 3 && (image[IncompatibleFeatures + 7] & 1) != 0;

    private static Dictionary<long, int> Count(byte[] image)
    {
        int bits = (int)U32(image, 20);
        int entrySize = (image[IncompatibleFeatures + 7] & 16) != 0 ? 16 : 8;
        Dictionary<long, int> counts = [];
        void Add(long offset, long length)
        {
            for (long cluster = offset >> bits; cluster <= (offset + length - 1) >> bits; cluster++)
            {
                counts[cluster] = counts.GetValueOrDefault(cluster) + 1;
            }
        }

        Add(0, 1);
        Add(U64(image, 48), (long)U32(image, 56) << bits);
        AddTree(image, U64(image, 40), U32(image, 36) * 8L, bits, entrySize, Add);
        AddSnapshots(image, bits, entrySize, Add);
        foreach (long block in Tables(image, U64(image, 48), (long)U32(image, 56) << bits))
        {
            Add(block, 1);
        }

        return counts;
    }

    private static void AddTree(byte[] image, long l1, long l1Bytes, int bits, int entrySize, Action<long, long> add)
    {
        add(l1, l1Bytes);
        foreach (long table in Tables(image, l1, l1Bytes))
        {
            add(table, 1);
            for (long entry = table; entry < table + (1L << bits); entry += entrySize)
            {
                AddEntry((ulong)U64(image, entry), bits, add);
            }
        }
    }

    // Entries: 0: u64 L1 offset  8: u32 L1 entries  12: u16 id length  14: u16 name length  36: u32 extra length, then extra, id, name, padding to 8.
    private static void AddSnapshots(byte[] image, int bits, int entrySize, Action<long, long> add)
    {
        long start = U64(image, 64);
        long end = start;
        for (uint i = 0; i < U32(image, 60); i++)
        {
            long entry = (end + 7) & ~7L;
            AddTree(image, U64(image, entry), U32(image, entry + 8) * 8L, bits, entrySize, add);
            uint lengths = U32(image, entry + 12);
            end = entry + 40 + U32(image, entry + 36) + (lengths >> 16) + (lengths & 0xffff);
        }

        if (end > start)
        {
            add(start, end - start);
        }
    }

    private static void AddEntry(ulong entry, int bits, Action<long, long> add)
    {
        if ((entry & Compressed) != 0)
        {
            int offsetBits = 62 - (bits - 8);
            long offset = (long)(entry & ((1UL << offsetBits) - 1));
            long sectors = (long)((entry & (Compressed - 1)) >> offsetBits) + 1;
            add(offset, (sectors * 512) - (offset & 511));
        }
        else if ((entry & OffsetMask) != 0)
        {
            add((long)(entry & OffsetMask), 1);
        }
    }

    private static void Store(byte[] image, Dictionary<long, int> counts)
    {
        int bits = (int)U32(image, 20);
        int order = image[7] >= 3 ? (int)U32(image, 96) : 4;
        long perBlock = (8L << bits) >> order;
        long first = 0;
        for (long entry = U64(image, 48); first <= counts.Keys.Max(); entry += 8, first += perBlock)
        {
            long block = (long)((ulong)U64(image, entry) & OffsetMask);
            for (int i = 0; i < perBlock; i++)
            {
                int count = counts.GetValueOrDefault(first + i);
                if (block != 0)
                {
                    StoreOne(image.AsSpan((int)block, 1 << bits), i, order, count);
                }
                else if (count != 0)
                {
                    throw new InvalidOperationException($"no refcount block for cluster {first + i}");
                }
            }
        }
    }

    private static void StoreOne(Span<byte> block, int index, int order, int count)
    {
        if (order >= 3)
        {
            int bytes = 1 << (order - 3);
            for (int i = 0; i < bytes; i++)
            {
                block[(index * bytes) + i] = (byte)(bytes - 1 - i >= 4 ? 0 : count >> (8 * (bytes - 1 - i)));
            }

            return;
        }

        int bit = index << order;
        int mask = ((1 << (1 << order)) - 1) << (bit & 7);
        block[bit >> 3] = (byte)((block[bit >> 3] & ~mask) | (count << (bit & 7)));
    }

    private static IEnumerable<long> Tables(byte[] image, long start, long length)
    {
        for (long entry = start; entry < start + length; entry += 8)
        {
            long offset = (long)((ulong)U64(image, entry) & OffsetMask);
            if (offset != 0)
            {
                yield return offset;
            }
        }
    }

    private static uint U32(byte[] image, long offset) => BinaryPrimitives.ReadUInt32BigEndian(image.AsSpan((int)offset));

    // What lies past the end of the file reads as zeros.
    private static long U64(byte[] image, long offset) =>
        offset + 8 <= image.Length ? BinaryPrimitives.ReadInt64BigEndian(image.AsSpan((int)offset)) : 0;
}
